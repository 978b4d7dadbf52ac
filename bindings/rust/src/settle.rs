//! What the next owner of an SPSC role settles, `docs/FORMAT.md` sections 10.3 and 10.4. A death in the middle repeats the work.

use crate::core::Core;
use crate::error::{Error, Result};
use crate::layout::*;
use crate::order;
use crate::recover::{LOST, SKIPPED};
use crate::word::*;

impl Core {
    /// 10.3: settles an open reservation of the last producer, and returns where sending goes on and the position of the consumer.
    pub(crate) fn settle_producer(&self) -> Result<(u64, u64)> {
        let ctl = self.ctl();
        let mut t = order::load(&ctl.producer_position); // P0
        let limit = order::load(&ctl.consumer_position); // S1
        for _ in 0..self.slots {
            match spsc_end(order::load(self.state(t)), t, self.slots) {
                Some(e) => t = e, // D1
                None => break,
            }
        }
        if t.wrapping_sub(limit) > self.slots {
            return Err(Error::corrupt("consumer position", t, limit));
        }
        if order::load(&ctl.reserved_position) == t.wrapping_add(1) {
            self.count(t, order::load(self.state(t)), SKIPPED); // V9
            order::write(&self.entry(t).length, FLAG_PAD | FLAG_SKIP); // S3
            order::store(self.state(t), spsc_word(t.wrapping_add(1), 0)); // S4
            t = t.wrapping_add(1);
        }
        order::store(&ctl.reserved_position, 0); // S5
        order::store(&ctl.producer_position, t); // S5
        Ok((t, limit))
    }

    /// 10.4: gives back what the last consumer left leased, and returns where reading goes on.
    pub(crate) fn settle_consumer(&self) -> u64 {
        let ctl = self.ctl();
        let h = order::load(&ctl.consumer_position); // D4
        let leased = order::load(&ctl.lease_end); // L2
        if leased.wrapping_sub(h).wrapping_sub(1) < self.slots {
            return self.spsc_give_back(h, leased, true);
        }
        order::store(&ctl.journal, 0); // J1
        h
    }

    /// Gives back the messages in `[from, leased)`, and returns where reading goes on. The caller holds the consumer's role.
    pub(crate) fn spsc_give_back(&self, from: u64, leased: u64, by_policy: bool) -> u64 {
        let ctl = self.ctl();
        self.explode(from, leased);
        if by_policy && self.drop_policy {
            self.spsc_each(from, leased, |x, _, w| {
                self.count(x, w, LOST);
            });
            order::store(&ctl.consumer_position, leased); // D4
            order::store(&ctl.journal, 0); // J1: a return that died may have left it
            return leased;
        }
        let done = order::load(&ctl.journal); // J1
        self.spsc_each(from, leased, |x, e, w| {
            let r = given_back(w);
            if self.max_deliveries > 0 && r >= self.max_deliveries && done >> 8 != x & ((1 << 56) - 1) {
                return; // counted before, and waits to be stepped over
            }
            let mut next = next_given_back(r);
            if done != 0 {
                match ((done >> 8).wrapping_sub(x) << 8) as i64 {
                    0 => next = done & DELIVERIES_MASK, // the last owner of the role died here
                    1.. => return,                      // settled before it died
                    _ => {}
                }
            }
            order::store(&ctl.journal, x << 8 | next); // J1
            if self.max_deliveries > 0 && next >= self.max_deliveries {
                self.count(x, w, LOST);
            }
            order::store(self.state(x), spsc_word(e, next)); // J2
        });
        order::store(&ctl.lease_end, from); // J3
        order::store(&ctl.journal, 0); // J1
        from
    }

    /// Calls `f` for every message of `[from, to)`, which are single entries, in order: position, end, state word.
    fn spsc_each(&self, from: u64, to: u64, f: impl Fn(u64, u64, u64)) {
        let mut x = from;
        while distance(to, x) > 0 {
            let w = order::load(self.state(x)); // D1
            let Some(e) = spsc_end(w, x, self.slots) else { return };
            if order::peek(&self.entry(x).length) & FLAG_PAD == 0 {
                f(x, e, w); // D2
            }
            x = e;
        }
    }

    /// Rewrites every run that reaches into `[from, to)` as single entries, the last first, so that a reader finds the same messages
    /// throughout. An entry that is not valid yet gets its length word first. The head of a run, if its word is valid, becomes a run of one
    /// first: with the length word first it would be one message of all slots for a moment.
    fn explode(&self, from: u64, to: u64) {
        let mut x = from;
        while distance(to, x) > 0 {
            let valid = spsc_end(order::load(self.state(x)), x, self.slots); // D1
            let (e, length) = match valid {
                Some(e) => (e, order::peek(&self.entry(x).length)), // D2
                None => match self.inside_run(x) {
                    Some((e, n)) => (e, n | FLAG_RUN),
                    None => return,
                },
            };
            if length & FLAG_RUN != 0 {
                let size = length & LENGTH_MASK;
                let mut m = e.wrapping_sub(1);
                while m != x {
                    self.write_single(m, size);
                    m = m.wrapping_sub(1);
                }
                if valid.is_some() {
                    order::store(self.state(x), spsc_word(x.wrapping_add(1), 0));
                    // J4
                }
                self.write_single(x, size);
            }
            x = e;
        }
    }

    /// J4: makes the entry at `m` that of a message of `size` bytes in its data cell.
    fn write_single(&self, m: u64, size: u64) {
        order::store(&self.entry(m).length, size); // S3: at the head of a run not before J4
        order::store(self.state(m), spsc_word(m.wrapping_add(1), 0)); // J4
    }

    /// Whether position `x`, which has no valid word of its own, is inside the run that the consumer entered last: its end, and the bytes of
    /// each message.
    pub(crate) fn inside_run(&self, x: u64) -> Option<(u64, u64)> {
        let e = order::load(&self.ctl().run_end); // D2
        let n = order::peek(&self.ctl().run_length); // D2
        (e.wrapping_sub(x).wrapping_sub(1) < self.slots && n <= self.slot_size).then_some((e, n))
    }
}

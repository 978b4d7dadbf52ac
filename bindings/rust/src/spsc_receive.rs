//! Receiving from an SPSC ring, `docs/FORMAT.md` sections 10.2 and 10.4. Every operation is wait-free.

use crate::consumer::{Consumer, Delivery};
use crate::error::{Error, Result};
use crate::layout::{FLAG_PAD, FLAG_RUN, LENGTH_MASK};
use crate::lease::Item;
use crate::order;
use crate::word::*;

/// Space is given back when 1/2^STRIDE of the ring is consumed.
const STRIDE: u32 = 3;

impl Consumer {
    /// Finds the message at the own position, D1, D2; nothing is taken.
    fn spsc_find(&mut self) -> Result<Item> {
        let c = self.h.c;
        for _ in 0..c.max_steps {
            let h = self.pos;
            if distance(self.run_end, h) > 0 {
                return Ok(self.run_item(h));
            }
            let entry = c.entry(h);
            let w = order::load(&entry.state); // D1
            let Some(e) = spsc_end(w, h, c.slots) else { return Err(Error::Empty) };
            let length = order::peek(&entry.length); // D2
            let given = given_back(w);
            if length & FLAG_PAD != 0 {
                self.step_over(e);
                continue;
            }
            if length & FLAG_RUN != 0 {
                let n = length & !FLAG_RUN;
                if n > c.slot_size || given != 0 {
                    return Err(Error::corrupt("length word", h, length));
                }
                if self.lease.open() {
                    return Err(Error::Empty); // a batch ends before a run
                }
                self.enter_run(e, n);
                continue;
            }
            let Some(payload) = c.payload(h, e.wrapping_sub(h), length) else {
                return Err(Error::corrupt("length word", h, length));
            };
            if c.max_deliveries > 0 && given >= c.max_deliveries {
                self.step_over(e); // already counted as lost
                continue;
            }
            return Ok(Item { p: h, e, payload, given });
        }
        Err(Error::corrupt("state word", self.pos, order::load(c.state(self.pos))))
    }

    #[inline(always)]
    pub(crate) fn run_item(&self, p: u64) -> Item {
        Item { p, e: p.wrapping_add(1), payload: self.h.c.cell_for(p, self.run_length), given: 0 }
    }

    /// D2: notes a run for oneself and, before the position moves into it, for a successor.
    fn enter_run(&mut self, e: u64, n: u64) {
        (self.run_end, self.run_length) = (e, n);
        let ctl = self.h.c.ctl();
        order::write(&ctl.run_length, n);
        order::store(&ctl.run_end, e);
    }

    /// Passes an extent that holds no message to receive.
    fn step_over(&mut self, e: u64) {
        if !self.lease.open() {
            self.give_space(e);
        }
        self.pos = e;
    }

    /// Makes `e` the exact position, D4, gives the space below it back in strides, D5, and wakes the producer, D6.
    #[inline(always)]
    fn give_space(&mut self, e: u64) {
        let c = &self.h.c;
        let ctl = c.ctl();
        order::publish(&ctl.consumer_position, e, self.h.fenced); // D4
        if e.wrapping_sub(self.given) > c.slots >> STRIDE {
            self.given = e;
            order::store(&ctl.space_position, e); // D5
        }
        self.h.wake_producers(); // D6
    }

    /// Copies the message at the own position out, if it is ready, of one slot and never given back, and fits. In a run no word is valid.
    #[inline(always)]
    pub(crate) fn spsc_fast(&mut self, buf: &mut [u8]) -> Option<usize> {
        let c = &self.h.c;
        let h = self.pos;
        let next = h.wrapping_add(1);
        let e = c.entry(h);
        if order::load(&e.state) != spsc_word(next, 0) {
            return None; // D1
        }
        let n = c.single(h, order::peek(&e.length))?.get(buf)?; // D2
        self.consumed(h, next, 1);
        Some(n)
    }

    /// Copies the next message out, D1..D6. It changes nothing when `buf` is too small.
    pub(crate) fn spsc_receive(&mut self, buf: &mut [u8]) -> Result<usize> {
        let it = self.spsc_find()?;
        let Some(n) = it.payload.get(buf) else {
            return Err(Error::ShortBuffer { need: it.payload.len as usize });
        };
        self.consumed(it.p, it.e, deliveries(it.given)); // D3 before
        Ok(n)
    }

    /// Ends the receipt by copying of the message `[p, e)`.
    #[inline(always)]
    fn consumed(&mut self, p: u64, e: u64, count: u32) {
        self.pos = e;
        self.give_space(e);
        self.last = Delivery { position: p, deliveries: count };
        order::bump(&self.h.me().received, 1);
        if count > 1 {
            order::bump(&self.h.me().redelivered, 1);
        }
    }

    /// Takes the message at the own position and up to `limit - 1` of the same kind behind it, if it is ready, of one slot and never given
    /// back, or one of a run.
    #[inline]
    pub(crate) fn spsc_lease_fast(&mut self, limit: usize) -> bool {
        let first = self.pos;
        let left = self.run_end.wrapping_sub(first);
        if left as i64 > 0 {
            let n = left.min(limit as u64);
            self.lease.begin_run(self.run_item(first), n as usize);
            self.pos = first.wrapping_add(n);
            self.spsc_leased(first);
            return true;
        }
        self.lease.clear();
        while self.lease.count < limit {
            let Some(it) = self.simple_item() else { break };
            self.lease.add(it);
            self.pos = it.e;
        }
        if self.lease.count == limit {
            self.spsc_leased(first);
            return true;
        }
        self.lease.open() && self.spsc_lease_rest(limit, first)
    }

    /// The message at the own position, if it is ready, of one slot and never given back.
    #[inline(always)]
    fn simple_item(&self) -> Option<Item> {
        let c = &self.h.c;
        let (p, e) = (self.pos, self.pos.wrapping_add(1));
        if order::load(c.state(p)) != spsc_word(e, 0) {
            return None; // D1
        }
        let payload = c.single(p, order::peek(&c.entry(p).length))?; // D2
        Some(Item { p, e, payload, given: 0 })
    }

    /// L1, L2: notes the lease from `first` to the own position.
    #[inline]
    fn spsc_leased(&mut self, first: u64) {
        self.h.hold(first.wrapping_add(1));
        order::store(&self.h.c.ctl().lease_end, self.pos);
        self.count_taken();
    }

    /// Goes on with a lease of single messages from `first` on, with messages of every kind.
    fn spsc_lease_rest(&mut self, limit: usize, first: u64) -> bool {
        while self.lease.count < limit {
            let Ok(it) = self.spsc_find() else { break }; // what is wrong there shows when its turn comes
            self.lease.add(it);
            self.pos = it.e;
        }
        self.spsc_leased(first);
        true
    }

    /// Takes the next 1 to `limit` messages: those of one run, or single ones up to the next run.
    pub(crate) fn spsc_lease(&mut self, limit: usize) -> Result<()> {
        let first = self.spsc_find()?;
        if distance(self.run_end, first.p) > 0 {
            self.spsc_lease_fast(limit);
        } else {
            self.lease.begin(first);
            self.pos = first.e;
            self.spsc_lease_rest(limit, first.p);
        }
        Ok(())
    }

    /// Releases the messages up to index `i`.
    #[inline]
    pub(crate) fn spsc_release(&mut self, i: usize) {
        let mut e = self.at(i).e;
        self.lease.next = i + 1;
        if !self.lease.open() {
            e = self.pos; // padding behind the last message goes with it
        }
        self.give_space(e);
        self.unhold();
    }

    /// Gives everything that is held back, and what lies behind it becomes unread again.
    pub(crate) fn spsc_return(&mut self, by_policy: bool) {
        let from = self.at(self.lease.next).p;
        self.lease.next = self.lease.count;
        self.pos = self.h.c.spsc_give_back(from, self.pos, by_policy);
        self.given = earlier(self.given, self.pos);
        self.run_end = self.pos;
        self.unhold();
        self.h.wake_everybody();
    }

    /// Starts where the ring stands, and settles what the last consumer left.
    pub(crate) fn spsc_adopt(&mut self) {
        let c = self.h.c;
        self.pos = c.settle_consumer();
        self.given = self.pos;
        self.run_end = self.pos;
        if let Some((e, n)) = c.inside_run(self.pos) {
            if spsc_end(order::load(c.state(self.pos)), self.pos, c.slots).is_none() {
                (self.run_end, self.run_length) = (e, n & LENGTH_MASK); // D1
            }
        }
        order::store(&c.ctl().space_position, self.pos); // D5
    }
}

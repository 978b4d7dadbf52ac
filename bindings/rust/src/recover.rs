//! Recovery, `docs/FORMAT.md` section 11: what a dead participant held is repaired by whoever needs it, several at once, each of whom may die
//! at any step.
//!
//! The proof of death is the read lock on the participant's byte. While it is held words that name the participant are changed by recoverers
//! only, and as no state word ever repeats, each CAS below succeeds once.

use crate::census::participant_byte;
use crate::core::{Core, Session};
use crate::create::now;
use crate::layout::*;
use crate::order;
use crate::ring::Shared;
use crate::word::*;
use crate::Role;

// Fields of an account, 11.3: tag:24 | lost:20 | skipped:20.
pub(crate) const SKIPPED: u64 = 1;
pub(crate) const LOST: u64 = 1 << 20;
pub(crate) const COUNT: u64 = (1 << 20) - 1;
const TAG: u32 = 40;

impl Core {
    /// Adds one to the account of position `p`, once for that position however often it is tried. `w` is the state word that the decision
    /// rests on; false when it stands no more: then the message is settled, and nothing more may be done with its slots.
    pub(crate) fn count(&self, p: u64, w: u64, what: u64) -> bool {
        let a = self.account(p);
        let tag = ((p / self.slots) & ((1 << 23) - 1)) << 1 | 1;
        for _ in 0..1 << 12 {
            let v = order::load(a); // V8
            if order::load(self.state(p)) != w {
                return false; // V9
            }
            if v >> TAG == tag {
                return true;
            }
            let mut next = v & ((1 << TAG) - 1) | tag << TAG;
            if (v / what) & COUNT != COUNT {
                next += what;
            }
            if order::cas(a, v, next) {
                return true; // V8
            }
        }
        false
    }

    /// Whether a message that was given back `r` times before is lost now.
    pub(crate) fn lost(&self, r: u64, by_policy: bool) -> bool {
        by_policy && self.drop_policy || self.max_deliveries > 0 && r + 1 >= self.max_deliveries
    }
}

/// V6: counts every session that is neither closed nor counted as died, once. The caller holds the lock.
fn retire(s: Session<'_>) -> bool {
    let died = order::load(s.died);
    let now = order::load(s.registered).wrapping_sub(order::load(s.closed));
    now != died && order::cas(s.died, died, now)
}

impl Shared {
    /// Settles what participant `id` left behind when it died. False when it lives, or when nothing was left to do.
    pub(crate) fn recover(&self, id: u32) -> bool {
        let c = &self.core;
        let Some(_hold) = self.seg.keeper.hold(participant_byte(id)) else {
            return false; // V1
        };
        let m = c.participant(id);
        if !m.open() {
            return false;
        }
        if !c.spsc {
            Repair { c, left: 8 * c.slots + 64 }.scan(id);
        }
        order::add(&c.ctl().returns, 1); // V4
        c.not_empty().notify_all(); // V5
        c.not_full().notify_all();
        order::write(&m.held, 0); // V6
        let producer = m.session(Role::Producer);
        if producer.open() {
            order::write(&m.ended, now() << 1 | 1);
        }
        let retired = retire(producer);
        if retire(m.session(Role::Consumer)) || retired {
            order::add(&c.ctl().recoveries, 1);
            order::add(&c.ctl().roster, 1);
        }
        true
    }
}

/// One scan for the remains of one dead participant. `left` bounds its steps: extents of honest participants do not overlap.
struct Repair<'a> {
    c: &'a Core,
    left: u64,
}

impl Repair<'_> {
    /// V2, V3.
    fn scan(&mut self, id: u32) {
        let c = self.c;
        for i in 0..c.slots {
            let w = order::load(c.state(i)); // V2
            if owner(w) != id {
                continue;
            }
            let e = sequence(w, order::peek(&c.ctl().producer_position)); // P0: only widens the sequence
            let p = head(e, i, c.slots);
            if state_of(w) == STATE_CLAIMED {
                self.free_interior(p, e);
                if c.count(p, w, SKIPPED) {
                    self.free_head(p, w);
                }
            } else if state_of(w) == STATE_DONE {
                self.free_interior(p, e);
                self.free_head(p, w);
            } else if is_taken(w) {
                self.give_back(p, e, w);
            }
        }
    }

    /// Frees the first slot of an extent, last.
    fn free_head(&self, p: u64, w: u64) {
        order::cas(self.c.state(p), w, free_word(p.wrapping_add(self.c.slots)));
        // V3
    }

    /// Frees the slots behind `p` that are still of its lap, the last first.
    fn free_interior(&mut self, p: u64, e: u64) {
        let c = self.c;
        let mut q = e.wrapping_sub(1);
        while distance(q, p) > 0 && self.left > 0 {
            self.left -= 1;
            for _ in 0..4 {
                // A CAS fails only when another recoverer did the same; hostile bytes end here.
                let v = order::load(c.state(q)); // V2
                if matches!(stand(v, q, c.slots).0, Stand::Passed | Stand::Old | Stand::Corrupt)
                    || order::cas(c.state(q), v, free_word(q.wrapping_add(c.slots)))
                {
                    break; // V3
                }
            }
            q = q.wrapping_sub(1);
        }
    }

    /// Gives back the lease `[p, e)`: the messages behind the first, last to first, then the first, whose word `w` is the lease's.
    fn give_back(&mut self, p: u64, e: u64, w: u64) {
        let c = self.c;
        let n = order::load(&c.entry(p).length) & LENGTH_MASK; // C3 acq: before the next load
        if order::load(c.state(p)) != w {
            return; // V3: settled by another recoverer, and n may be of a later message
        }
        let first = earlier(p.wrapping_add(c.slots_for(n.min(c.max_message))), e);
        let mut x = e.wrapping_sub(1);
        while distance(x, first) >= 0 && self.left > 0 {
            self.left -= 1;
            let v = order::load(c.state(x)); // V2
            let (s, end) = stand(v, x, c.slots);
            if s == Stand::Ready && given_back(v) == 0 && distance(e, end) >= 0 {
                self.give_back_one(x, end, v);
            }
            x = x.wrapping_sub(1);
        }
        self.give_back_one(p, first, w);
    }

    /// Makes the message `[p, e)`, whose word is `v`, readable again, or loses it.
    fn give_back_one(&mut self, p: u64, e: u64, v: u64) {
        let r = given_back(v);
        if !self.c.lost(r, true) {
            order::cas(self.c.state(p), v, ready_word(e, next_given_back(r))); // V3
        } else if self.c.count(p, v, LOST) {
            self.free_interior(p, e);
            self.free_head(p, v);
        }
    }
}

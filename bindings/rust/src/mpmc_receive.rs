//! Receiving from an MPMC ring, `docs/FORMAT.md` sections 9.3 to 9.5.

use crate::consumer::{Consumer, Delivery};
use crate::error::{Error, Result};
use crate::handle::Blockage;
use crate::lease::Item;
use crate::mpmc_send::{HINT_EVERY, HINT_SMALL};
use crate::order;
use crate::recover::LOST;
use crate::word::*;

/// A message that a consumer may take: position, state word as loaded, end.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) p: u64,
    pub(crate) w: u64,
    pub(crate) e: u64,
}

impl Consumer {
    /// Finds the next message, C0..C2. `Empty` left a note of what stands in the way.
    pub(crate) fn mpmc_find(&mut self) -> Result<Found> {
        let c = self.h.c;
        let ctl = c.ctl();
        let mut g = order::load(&ctl.returns); // C0
        if g != self.seen {
            if let Some(f) = self.rescue() {
                return Ok(f);
            }
        }
        let mut p = self.pos;
        self.h.blocked = Blockage::default();
        for _ in 0..c.max_steps {
            let w = order::load(c.state(p)); // C2
            let hint = || c.hint(order::load(&ctl.consumer_position), p); // C1
            let (s, e) = stand(w, p, c.slots);
            match s {
                Stand::Ready => {
                    self.pos = p;
                    return Ok(Found { p, w, e });
                }
                Stand::Claimed | Stand::Free | Stand::Old => {
                    self.h.blocked = if s == Stand::Claimed { Blockage { at: p, word: w } } else { Blockage::default() };
                    self.pos = p;
                    // C0: no give-back was announced up to the load of w, so nothing was ready then.
                    let now = order::load(&ctl.returns);
                    if now == g {
                        return Err(Error::Empty);
                    }
                    g = now;
                    if g != self.seen {
                        if let Some(f) = self.rescue() {
                            return Ok(f);
                        }
                    }
                }
                Stand::Taken | Stand::Done => p = later(e, hint()),
                Stand::Passed => p = later(beyond(w, p, e, c.slots), hint()),
                Stand::Corrupt => return Err(Error::corrupt("state word", p, w)),
            }
        }
        Err(Error::corrupt("state word", p, order::load(c.state(p))))
    }

    /// Looks for a message that was given back, at any position, lowest first (9.5). A scan that finds none makes `returns` seen.
    #[cold]
    pub(crate) fn rescue(&mut self) -> Option<Found> {
        let c = self.h.c;
        let g = order::load(&c.ctl().returns); // C0
        let mut best: Option<Found> = None;
        for i in 0..c.slots {
            let w = order::load(c.state(i)); // C2
            if !is_ready(w) || given_back(w) == 0 {
                continue;
            }
            let e = sequence(w, self.pos);
            let p = head(e, i, c.slots);
            if best.is_none_or(|b| distance(p, b.p) < 0) {
                best = Some(Found { p, w, e });
            }
        }
        if best.is_none() {
            self.seen = g;
        }
        best
    }

    /// Copies the message at the own candidate out and releases it, if it is ready, of one slot and never given back, and fits.
    #[inline(always)]
    pub(crate) fn mpmc_fast(&mut self, buf: &mut [u8]) -> Option<usize> {
        let c = &self.h.c;
        let p = self.pos;
        let e = c.entry(p);
        let w = order::load(&e.state); // C2
        let next = p.wrapping_add(1);
        if w != ready_word(next, 0) || order::load(&c.ctl().returns) != self.seen {
            return None; // C0
        }
        let n = c.single(p, order::peek(&e.length))?.get(buf)?; // C3
                                                                // C4. Release: the payload has been read before the slot is handed back.
        if !order::cas_publish(&e.state, w, free_word(p.wrapping_add(c.slots)), self.h.fenced) {
            return None;
        }
        self.received(p, next, 1);
        self.h.wake_producers();
        Some(n)
    }

    /// Copies the next message out and releases it, C2..C7. It changes nothing when `buf` is too small.
    pub(crate) fn mpmc_receive(&mut self, buf: &mut [u8]) -> Result<usize> {
        let c = self.h.c;
        for _ in 0..c.max_steps {
            let f = self.mpmc_find()?;
            let k = f.e.wrapping_sub(f.p);
            let length = order::load(&c.entry(f.p).length); // C3: before a second look at the word
            let payload = c.payload(f.p, k, length);
            let Some(n) = payload.and_then(|x| x.get(buf)) else {
                if order::load(c.state(f.p)) != f.w {
                    continue; // C2: somebody took it meanwhile
                }
                return Err(match payload {
                    Some(x) => Error::ShortBuffer { need: x.len as usize },
                    None => Error::corrupt("length word", f.p, length),
                });
            };
            let next = if k > 1 { done_word(f.e, self.h.id) } else { free_word(f.p.wrapping_add(c.slots)) };
            if !order::cas_publish(c.state(f.p), f.w, next, self.h.fenced) {
                continue; // C4
            }
            if k > 1 {
                self.free_done(f.p, f.e);
            }
            self.received(f.p, f.e, deliveries(given_back(f.w)));
            self.h.wake_producers();
            return Ok(n);
        }
        Err(Error::corrupt("state word", self.pos, order::load(c.state(self.pos))))
    }

    /// C5: gives the slots of a received extent back: the interior first, so that whoever sees the head free sees all of it free.
    fn free_done(&self, p: u64, e: u64) {
        let c = &self.h.c;
        self.h.free_stretch(p.wrapping_add(1), e);
        order::publish(c.state(p), free_word(p.wrapping_add(c.slots)), self.h.fenced);
    }

    /// Notes one received message, after the fact.
    #[inline(always)]
    fn received(&mut self, p: u64, e: u64, count: u32) {
        if p == self.pos {
            self.passed(p, e); // after a rescue the own candidate stays
        }
        self.last = Delivery { position: p, deliveries: count };
        order::bump(&self.h.me().received, 1);
        if count > 1 {
            order::bump(&self.h.me().redelivered, 1);
        }
    }

    /// Moves the own candidate to `e`, and the hint now and then.
    #[inline(always)]
    fn passed(&mut self, p: u64, e: u64) {
        self.pos = e;
        let c = &self.h.c;
        if p / HINT_EVERY != e / HINT_EVERY || c.slots <= HINT_SMALL {
            order::store(&c.ctl().consumer_position, e); // C6
        }
    }

    /// Takes the message at the own candidate and up to `limit - 1` behind it, if it is ready, of one slot and never given back.
    #[inline]
    pub(crate) fn mpmc_lease_fast(&mut self, limit: usize) -> bool {
        let c = &self.h.c;
        let p = self.pos;
        let w = order::load(c.state(p)); // C2
        let e = p.wrapping_add(1);
        if w != ready_word(e, 0) || order::load(&c.ctl().returns) != self.seen {
            return false; // C0
        }
        let Some(payload) = c.single(p, order::peek(&c.entry(p).length)) else { return false }; // C3
        self.lease.begin(Item { p, e, payload, given: 0 });
        let end = if limit > 1 { self.extend(Found { p, w, e }, limit) } else { e };
        self.h.hold(e); // L1
        let taken = order::cas(self.h.c.state(p), w, taken_word(end, self.h.id, 0)); // L2
        if taken {
            (self.lease.end, self.lease.shared) = (end, true);
            self.passed(p, end);
            self.count_taken();
        } else {
            self.lease.clear();
            self.h.hold(0);
        }
        taken
    }

    /// Takes the next 1 to `limit` messages, L1, L2.
    pub(crate) fn mpmc_lease(&mut self, limit: usize) -> Result<()> {
        let c = self.h.c;
        for _ in 0..c.max_steps {
            let f = self.mpmc_find()?;
            let Some(first) = self.item(f) else {
                if order::load(c.state(f.p)) != f.w {
                    continue; // C2: somebody took it meanwhile
                }
                return Err(Error::corrupt("length word", f.p, order::peek(&c.entry(f.p).length)));
            };
            self.lease.begin(first);
            let r = first.given;
            let end = if r == 0 && limit > 1 { self.extend(f, limit) } else { f.e };
            self.h.hold(f.p.wrapping_add(1)); // L1
            if !order::cas(c.state(f.p), f.w, taken_word(end, self.h.id, r)) {
                self.lease.clear(); // nothing is held, and a drop of the consumer must not give it back
                self.h.hold(0);
                continue; // L2
            }
            self.lease.end = end;
            self.lease.shared = r == 0;
            if r > 0 {
                self.take_returned(limit);
            }
            if f.p == self.pos {
                self.passed(f.p, end); // after a rescue the own candidate stays
            }
            self.count_taken();
            return Ok(());
        }
        Err(Error::corrupt("state word", self.pos, order::load(c.state(self.pos))))
    }

    /// Describes a message from its length word, C3; None when that cannot be true.
    fn item(&self, f: Found) -> Option<Item> {
        let c = &self.h.c;
        let length = order::load(&c.entry(f.p).length); // before a second look at the word
        let payload = c.payload(f.p, f.e.wrapping_sub(f.p), length)?;
        Some(Item { p: f.p, e: f.e, payload, given: given_back(f.w) })
    }

    /// Adds the committed messages behind the first that nobody has passed, and returns the end of the last (I2).
    #[inline]
    fn extend(&mut self, first: Found, limit: usize) -> u64 {
        let c = self.h.c;
        let mut end = first.e;
        let mut x = end;
        while self.lease.count < limit && x.wrapping_sub(first.p) < c.slots {
            let w = order::load(c.state(x)); // C2
            let next = x.wrapping_add(1);
            if w == ready_word(next, 0) && next.wrapping_sub(first.p) <= c.slots {
                let Some(payload) = c.single(x, order::peek(&c.entry(x).length)) else { break }; // C3
                self.lease.add(Item { p: x, e: next, payload, given: 0 });
                (x, end) = (next, next);
                continue;
            }
            let (s, e) = stand(w, x, c.slots);
            if s == Stand::Passed {
                x = next; // skipped, discarded or padding
                continue;
            }
            if s != Stand::Ready || given_back(w) != 0 || e.wrapping_sub(first.p) > c.slots {
                break;
            }
            let Some(it) = self.item(Found { p: x, w, e }) else { break };
            self.lease.add(it);
            (x, end) = (e, e);
        }
        end
    }

    /// Takes further messages that were given back, one word each.
    fn take_returned(&mut self, limit: usize) {
        let c = self.h.c;
        for _ in 0..c.slots {
            if self.lease.count >= limit {
                return;
            }
            let Some(f) = self.rescue() else { return };
            let Some(it) = self.item(f) else { return };
            if distance(f.p, self.lease.at(self.lease.count - 1).p) < 0 {
                return; // positions in a batch ascend
            }
            if order::cas(c.state(f.p), f.w, taken_word(f.e, self.h.id, it.given)) {
                self.lease.add(it); // L2
            }
        }
    }

    /// Releases the messages up to index `i`, L3, L4.
    #[inline]
    pub(crate) fn mpmc_release(&mut self, i: usize) {
        if self.lease.shared {
            let (p, m) = self.cut(i);
            self.free(p, m);
        } else {
            while self.lease.next <= i {
                let it = self.lease.at(self.lease.next);
                self.free(it.p, it.e);
                self.lease.next += 1;
            }
        }
        self.unhold();
        self.h.wake_producers();
    }

    /// Ends the part of the lease that goes up to index `i`, and gives the rest, if any, a word of its own. Returns the part's extent.
    fn cut(&mut self, i: usize) -> (u64, u64) {
        let c = self.h.c;
        let p = self.lease.at(self.lease.next).p;
        let mut m = self.lease.end;
        if i + 1 < self.lease.count {
            m = self.lease.at(i + 1).p;
            order::store(c.state(m), taken_word(self.lease.end, self.h.id, 0)); // L3: while both words stand, both name this consumer
        }
        self.lease.next = i + 1;
        (p, m)
    }

    /// L3: ends the lease of the extent `[p, e)`.
    fn free(&self, p: u64, e: u64) {
        let c = &self.h.c;
        if e.wrapping_sub(p) == 1 {
            order::publish(c.state(p), free_word(p.wrapping_add(c.slots)), self.h.fenced);
            return;
        }
        order::store(c.state(p), done_word(e, self.h.id));
        self.free_done(p, e);
    }

    /// Gives everything that is held back: redelivered, or, with `by_policy`, as the policy says for a dead consumer.
    pub(crate) fn mpmc_return(&mut self, by_policy: bool) {
        let c = self.h.c;
        while self.lease.open() {
            let it = self.lease.at(self.lease.next);
            if self.lease.shared {
                self.cut(self.lease.next);
            } else {
                self.lease.next += 1;
            }
            let w = order::peek(c.state(it.p)); // L3: own word
            if c.lost(it.given, by_policy) {
                c.count(it.p, w, LOST);
                self.free(it.p, it.e);
            } else {
                order::store(c.state(it.p), ready_word(it.e, next_given_back(it.given)));
                // L3
            }
        }
        order::add(&c.ctl().returns, 1); // V4
        self.h.wake_everybody();
        self.unhold();
    }
}

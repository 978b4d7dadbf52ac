//! Sending into an MPMC ring, `docs/FORMAT.md` section 9.1.
//!
//! After Dmitry Vyukov, "Bounded MPMC queue" (1024cores.net). The deviation is where a claim happens: a CAS on the slot's own word, which
//! names the owner, the end of the extent and the lap. So every word says at every instant who may act on it, and the shared positions are
//! hints that may lag or be wrong. A retry means that another producer claimed.

use crate::core::Core;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::order;
use crate::producer::Producer;
use crate::word::*;

/// How many positions go by between two stores of a position hint. A hint saves others a walk; nothing rests on it.
pub(crate) const HINT_EVERY: u64 = 8;
/// The ring size up to which hints are stored every time: a lap must not go by between two.
pub(crate) const HINT_SMALL: u64 = 8 * HINT_EVERY;

/// A claimed extent: its head, the position of the message behind the padding, and its end.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extent {
    pub(crate) head: u64,
    pub(crate) at: u64,
    pub(crate) end: u64,
}

impl Producer {
    /// Sends a message of one slot, if the slot at the own candidate is free for it.
    #[inline(always)]
    pub(crate) fn mpmc_fast(&mut self, msg: &[u8]) -> bool {
        let c = &self.h.c;
        let t = self.pos;
        // The acquire of the claim: the consumer has read the payload that is overwritten next.
        if msg.len() as u64 > c.slot_size || self.mpmc_claim_fast().is_none() {
            return false;
        }
        let c = &self.h.c;
        let (payload, length) = c.place(t, msg.len() as u64);
        payload.put(msg);
        let e = c.entry(t);
        order::write(&e.length, length); // P4
        order::publish(&e.state, ready_word(t.wrapping_add(1), 0), self.h.fenced); // P6
        self.advance(t, t.wrapping_add(1), 1);
        self.h.wake_consumers(1);
        true
    }

    /// Claims the slot at the own candidate, if it is free for it: P3.
    #[inline(always)]
    pub(crate) fn mpmc_claim_fast(&mut self) -> Option<Extent> {
        let t = self.pos;
        let end = t.wrapping_add(1);
        let claimed = order::cas(self.h.c.state(t), free_word(t), claimed_word(end, self.h.id));
        claimed.then_some(Extent { head: t, at: t, end })
    }

    pub(crate) fn mpmc_send(&mut self, msg: &[u8]) -> Result<()> {
        let n = msg.len() as u64;
        self.fits(n)?;
        let x = self.mpmc_claim(self.h.c.slots_for(n))?;
        let (payload, length) = self.h.c.place(x.at, n);
        payload.put(msg);
        self.mpmc_publish(x, n, length);
        Ok(())
    }

    /// Notes what was committed or given up in `[head, end)`, after the fact.
    #[inline(always)]
    pub(crate) fn advance(&mut self, head: u64, end: u64, messages: u64) {
        self.pos = end;
        let c = &self.h.c;
        if head / HINT_EVERY != end / HINT_EVERY || c.slots <= HINT_SMALL {
            order::store(&c.ctl().producer_position, end); // P7
        }
        order::bump(&self.h.me().sent, messages);
    }

    /// Claims `k` slots that do not wrap, P0..P3.
    pub(crate) fn mpmc_claim(&mut self, k: u64) -> Result<Extent> {
        let c = self.h.c;
        for _ in 0..c.max_steps {
            let (t, w) = self.mpmc_peek()?;
            let at = t.wrapping_add(c.pad(t, k));
            let end = at.wrapping_add(k);
            let q = c.first_used(t.wrapping_add(1), end);
            if q != end {
                if order::load(c.state(t)) != w {
                    continue; // P2: t was claimed meanwhile, so nothing is known about q
                }
                return Err(self.full(q));
            }
            if order::cas(c.state(t), w, claimed_word(end, self.h.id)) {
                if at != t {
                    order::bump(&self.h.me().padding, at.wrapping_sub(t));
                }
                return Ok(Extent { head: t, at, end }); // P3
            }
        }
        Err(self.lost_way())
    }

    /// Moves the own candidate to the next free position, P0, P1; `Full` when its slot is in use.
    pub(crate) fn mpmc_peek(&mut self) -> Result<(u64, u64)> {
        let c = self.h.c;
        for _ in 0..c.max_steps {
            let t = self.pos;
            let w = order::load(c.state(t)); // P1
            let hint = || c.hint(order::load(&c.ctl().producer_position), t); // P0
            match stand(w, t, c.slots) {
                (Stand::Free, _) => return Ok((t, w)),
                (Stand::Old, _) => return Err(self.full(t)),
                (Stand::Corrupt, _) => return Err(Error::corrupt("state word", t, w)),
                (Stand::Passed, e) => self.pos = later(beyond(w, t, e, c.slots), hint()),
                (_, e) => self.pos = later(e, hint()), // claimed by somebody
            }
        }
        Err(self.lost_way())
    }

    /// The bound on steps was met: honest participants cannot do that.
    #[cold]
    pub(crate) fn lost_way(&self) -> Error {
        Error::corrupt("state word", self.pos, order::load(self.h.c.state(self.pos)))
        // P1
    }

    /// Commits `n` bytes of payload, whose length word is `length`, in a claimed extent: P4..P8.
    pub(crate) fn mpmc_publish(&mut self, x: Extent, n: u64, length: u64) {
        let c = self.h.c;
        let e = x.at.wrapping_add(c.slots_for(n));
        order::write(&c.entry(x.at).length, length); // P4
        self.h.free_stretch(e, x.end); // slots that were reserved and not needed
        if x.at == x.head {
            order::publish(c.state(x.at), ready_word(e, 0), self.h.fenced); // P6
        } else {
            order::store(c.state(x.at), ready_word(e, 0)); // P5: reached only past the head
            self.h.free_stretch(x.head.wrapping_add(1), x.at);
            order::publish(c.state(x.head), free_word(x.head.wrapping_add(c.slots)), self.h.fenced);
            // P6
        }
        self.advance(x.head, x.end, 1);
        self.announce(1, x.at != x.head || e != x.end);
    }

    /// P8: wakes whom a commit concerns: consumers, and producers too when it freed slots.
    pub(crate) fn announce(&self, messages: u64, freed: bool) {
        self.h.wake_consumers(messages);
        if freed {
            self.h.wake_producers();
        }
    }

    /// Gives a claimed extent up.
    pub(crate) fn mpmc_discard(&mut self, x: Extent) {
        let c = self.h.c;
        self.h.free_stretch(x.head.wrapping_add(1), x.end);
        order::publish(c.state(x.head), free_word(x.head.wrapping_add(c.slots)), self.h.fenced); // P6
        self.advance(x.head, x.end, 0);
        // The slots are free, and the consumers have one claim less to wait for.
        self.h.wake_consumers(crate::event::ALL);
        self.h.wake_producers();
    }
}

impl Core {
    /// The first position of `[q, e)` whose slot is not free for it, or `e`.
    pub(crate) fn first_used(&self, q: u64, e: u64) -> u64 {
        let mut q = q;
        while q != e && order::load(self.state(q)) == free_word(q) {
            q = q.wrapping_add(1); // P2: what the consumer read there is done with
        }
        q
    }
}

impl Handle {
    /// P5, C5: frees the interior slots `[q, e)` of an own extent, before its head is handed over. The last first: whoever steps over a free
    /// slot must not land in the interior of something live (I3).
    pub(crate) fn free_stretch(&self, q: u64, e: u64) {
        let mut x = e;
        while distance(x, q) > 0 {
            x = x.wrapping_sub(1);
            order::store(self.c.state(x), free_word(x.wrapping_add(self.c.slots)));
        }
    }
}

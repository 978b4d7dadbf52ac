//! Sending into an SPSC ring, `docs/FORMAT.md` section 10.1. Every operation is wait-free.
//!
//! From producer to consumer: the state word beside the message, as in FastForward (Giacomoni, Moseley, Vachharajani, PPoPP 2008). From
//! consumer to producer: a position, as in Lamport's queue, read only when the private copy is used up.

use crate::error::{Error, Result};
use crate::layout::FLAG_PAD;
use crate::mpmc_send::{Extent, HINT_EVERY, HINT_SMALL};
use crate::order;
use crate::producer::Producer;
use crate::word::{distance, spsc_word};

impl Producer {
    /// S1: whether the positions up to `e` are free. While it spins, coarse, a producer looks at the space given back in strides only: the
    /// exact position is on the line that the consumer writes at every message.
    #[cold]
    pub(crate) fn room(&mut self, e: u64) -> Result<()> {
        let c = self.h.c;
        for exact in [false, true] {
            if e.wrapping_sub(self.limit) <= c.slots {
                return Ok(());
            }
            if exact && self.coarse {
                break;
            }
            let word = if exact { &c.ctl().consumer_position } else { &c.ctl().space_position };
            let now = order::load(word); // S1
            if distance(self.pos, now) < 0 || exact && self.pos.wrapping_sub(now) > c.slots {
                return Err(Error::corrupt("consumer position", self.pos, now));
            }
            if distance(now, self.limit) > 0 {
                self.limit = now;
            }
        }
        if e.wrapping_sub(self.limit) <= c.slots {
            return Ok(());
        }
        Err(self.full(e.wrapping_sub(c.slots)))
    }

    /// Sends a message of one slot, if the private copy of the limit says that there is room.
    #[inline(always)]
    pub(crate) fn spsc_fast(&mut self, msg: &[u8]) -> bool {
        let c = &self.h.c;
        let fits = msg.len() as u64 <= c.slot_size && self.pos.wrapping_add(1).wrapping_sub(self.limit) <= c.slots;
        if fits {
            self.spsc_put(msg, 1);
        }
        fits
    }

    pub(crate) fn spsc_send(&mut self, msg: &[u8]) -> Result<()> {
        self.fits(msg.len() as u64)?;
        let k = self.h.c.slots_for(msg.len() as u64);
        self.step_to(k)?;
        let end = self.pos.wrapping_add(k);
        if end.wrapping_sub(self.limit) > self.h.c.slots {
            self.room(end)?;
        }
        self.spsc_put(msg, k);
        Ok(())
    }

    /// S3 to S6: fills and publishes the next `k` slots.
    #[inline(always)]
    fn spsc_put(&mut self, msg: &[u8], k: u64) {
        let c = &self.h.c;
        let end = self.pos.wrapping_add(k);
        let (payload, length) = c.place(self.pos, msg.len() as u64);
        payload.put(msg);
        let e = c.entry(self.pos);
        order::write(&e.length, length); // S3
        order::publish(&e.state, spsc_word(end, 0), self.h.fenced); // S4
        self.committed(end, 1);
    }

    /// S2: makes sure that `k` slots from the own position on do not wrap, by padding if need be. Nothing is published unless there is room
    /// for the message as well.
    fn step_to(&mut self, k: u64) -> Result<()> {
        let t = self.pos;
        let pad = self.h.c.pad(t, k);
        if pad > 0 {
            self.room(t.wrapping_add(pad + k))?;
            self.skip_to_start(pad);
        }
        Ok(())
    }

    /// S2. The room was checked.
    pub(crate) fn skip_to_start(&mut self, pad: u64) {
        let c = &self.h.c;
        let end = self.pos.wrapping_add(pad);
        order::write(&c.entry(self.pos).length, FLAG_PAD); // S3
        order::store(c.state(self.pos), spsc_word(end, 0)); // S2
        self.pos = end;
        order::bump(&self.h.me().padding, pad);
    }

    /// S5, S6: everything below `e` is published.
    #[inline(always)]
    pub(crate) fn committed(&mut self, e: u64, messages: u64) {
        let c = &self.h.c;
        if self.hinted / HINT_EVERY != e / HINT_EVERY || c.slots <= HINT_SMALL {
            self.hinted = e;
            order::store(&c.ctl().producer_position, e); // S5
        }
        self.pos = e;
        order::bump(&self.h.me().sent, messages);
        self.h.wake_consumers(messages);
    }

    /// Makes room for `k` slots that do not wrap.
    pub(crate) fn spsc_reserve(&mut self, k: u64) -> Result<Extent> {
        self.step_to(k)?;
        let t = self.pos;
        if t.wrapping_add(k).wrapping_sub(self.limit) > self.h.c.slots {
            self.room(t.wrapping_add(k))?;
        }
        Ok(self.reserved_at(k))
    }

    /// Makes room for one slot, if the private copy of the limit says that there is some.
    #[inline(always)]
    pub(crate) fn spsc_reserve_fast(&mut self) -> Option<Extent> {
        let fits = self.pos.wrapping_add(1).wrapping_sub(self.limit) <= self.h.c.slots;
        fits.then(|| self.reserved_at(1))
    }

    #[inline(always)]
    fn reserved_at(&mut self, k: u64) -> Extent {
        let t = self.pos;
        order::write(&self.h.c.ctl().reserved_position, t.wrapping_add(1)); // S3
        Extent { head: t, at: t, end: t.wrapping_add(k) }
    }

    /// Commits `n` bytes of a reservation.
    pub(crate) fn spsc_publish(&mut self, at: u64, n: u64, length: u64) {
        let c = &self.h.c;
        let end = at.wrapping_add(c.slots_for(n));
        order::write(&c.entry(at).length, length); // S3
        order::publish(c.state(at), spsc_word(end, 0), self.h.fenced); // S4
        order::store(&c.ctl().reserved_position, 0); // S5: not before S4
        self.committed(end, 1);
    }
}

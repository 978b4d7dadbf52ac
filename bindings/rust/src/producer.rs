//! Producers.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::Payload;
use crate::error::{Error, Result};
use crate::handle::{Blockage, Handle, Stopper};
use crate::layout::LENGTH_MASK;
use crate::mpmc_send::Extent;
use crate::order;
use crate::ring::Shared;
use crate::Role;

/// Sends messages into a ring. Several may exist per process, each used by one thread at a time. Dropping it ends the registration.
pub struct Producer {
    pub(crate) h: Handle,
    pub(crate) pos: u64,     // own candidate: every position below it is claimed
    pub(crate) limit: u64,   // SPSC: private copy of the space that was given back
    pub(crate) coarse: bool, // SPSC: do not ask for the exact position
    pub(crate) hinted: u64,  // SPSC: producer_position as stored last
    pub(crate) wait_for_consumers: bool,
    open: Option<Claim>,
}

/// An open reservation.
#[derive(Clone, Copy)]
struct Claim {
    extent: Extent,
    payload: Payload,
    length: u64,
}

// SAFETY: the pointer of an open claim leads to shared memory, which has no thread.
unsafe impl Send for Producer {}

/// How a producer behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProducerOptions {
    /// Blocking calls wait while nobody is left to read, instead of returning [`Error::NoConsumers`].
    pub wait_for_consumers: bool,
}

impl Producer {
    pub(crate) fn new(shared: &Arc<Shared>, o: ProducerOptions) -> Result<Producer> {
        let h = Handle::register(shared, Role::Producer)?;
        let c = h.c;
        let (pos, limit) = if c.spsc { c.settle_producer()? } else { (order::load(&c.ctl().producer_position), 0) };
        let wait_for_consumers = o.wait_for_consumers;
        h.wake_everybody();
        h.shared.seg.sound()?;
        Ok(Producer { h, pos, limit, coarse: false, hinted: pos, wait_for_consumers, open: None })
    }

    /// Commits a copy of `msg`.
    ///
    /// Blocks: until the message fits, the handle is stopped, or nobody is left to read ([`Error::NoConsumers`]).
    /// Progress: wait-free when there is space (SPSC); lock-free (MPMC). At most `max_message` bytes, otherwise [`Error::TooLarge`].
    /// Failure: when it returned Ok the message stays until a consumer has released it, whoever dies.
    #[inline]
    pub fn send(&mut self, msg: &[u8]) -> Result<()> {
        if self.fast(msg) {
            return if self.h.calm() { Ok(()) } else { self.h.leave(Ok(())) };
        }
        self.send_until(msg, None)
    }

    /// [`send`](Producer::send) that gives up after a time, with [`Error::TimedOut`] or [`Error::Stalled`].
    #[inline]
    pub fn send_timeout(&mut self, msg: &[u8], timeout: Duration) -> Result<()> {
        if self.fast(msg) {
            return if self.h.calm() { Ok(()) } else { self.h.leave(Ok(())) };
        }
        self.send_until(msg, Instant::now().checked_add(timeout))
    }

    #[cold]
    fn send_until(&mut self, msg: &[u8], deadline: Option<Instant>) -> Result<()> {
        self.h.enter()?;
        self.coarse = true; // who may wait gets its space a stride at a time
        let r = match self.attempt(msg) {
            Err(Error::Full) => self.wait(deadline, |p| p.attempt(msg)),
            r => r,
        };
        self.coarse = false;
        self.h.leave(r)
    }

    /// Commits a copy of `msg`, or returns [`Error::Full`]. Blocks: never.
    #[inline]
    pub fn try_send(&mut self, msg: &[u8]) -> Result<()> {
        if self.fast(msg) {
            return if self.h.calm() { Ok(()) } else { self.h.leave(Ok(())) };
        }
        self.try_send_slow(msg)
    }

    fn try_send_slow(&mut self, msg: &[u8]) -> Result<()> {
        self.h.enter()?;
        let mut r = self.attempt(msg);
        if matches!(r, Err(Error::Full)) && self.unblock() {
            r = self.attempt(msg);
        }
        self.h.leave(r)
    }

    /// The common case: one slot, and it is free.
    #[inline(always)]
    fn fast(&mut self, msg: &[u8]) -> bool {
        self.h.ready() && if self.h.c.spsc { self.spsc_fast(msg) } else { self.mpmc_fast(msg) }
    }

    fn attempt(&mut self, msg: &[u8]) -> Result<()> {
        if self.h.c.spsc {
            self.spsc_send(msg)
        } else {
            self.mpmc_send(msg)
        }
    }

    /// Claims room for a message of `n` bytes, to be filled in place. Blocks as [`send`](Producer::send) does.
    ///
    /// Nothing is readable before `commit`. If the process dies before, the claim is skipped and counted.
    pub fn reserve(&mut self, n: usize) -> Result<Reservation<'_>> {
        self.reserve_until(n, None)
    }

    /// [`reserve`](Producer::reserve) that gives up after a time.
    pub fn reserve_timeout(&mut self, n: usize, timeout: Duration) -> Result<Reservation<'_>> {
        self.reserve_until(n, Instant::now().checked_add(timeout))
    }

    #[inline]
    fn reserve_until(&mut self, n: usize, deadline: Option<Instant>) -> Result<Reservation<'_>> {
        if self.fast_claim(n as u64) {
            return Ok(Reservation { p: self });
        }
        self.reserve_slow(n, deadline)
    }

    #[cold]
    fn reserve_slow(&mut self, n: usize, deadline: Option<Instant>) -> Result<Reservation<'_>> {
        self.h.enter()?;
        let r = match self.claim(n as u64) {
            Err(Error::Full) => self.wait(deadline, |p| p.claim(n as u64)),
            r => r,
        };
        self.reserved(r)
    }

    /// The common case: one slot, and it is free.
    #[inline]
    fn fast_claim(&mut self, n: u64) -> bool {
        if !self.h.ready() || n > self.h.c.slot_size {
            return false;
        }
        let extent = if self.h.c.spsc { self.spsc_reserve_fast() } else { self.mpmc_claim_fast() };
        if let Some(extent) = extent {
            self.opened(extent, n);
            self.h.busy = true;
        }
        extent.is_some()
    }

    /// Claims room for a message of `n` bytes, or returns [`Error::Full`]. Blocks: never.
    pub fn try_reserve(&mut self, n: usize) -> Result<Reservation<'_>> {
        self.h.enter()?;
        let mut r = self.claim(n as u64);
        if matches!(r, Err(Error::Full)) && self.unblock() {
            r = self.claim(n as u64);
        }
        self.reserved(r)
    }

    fn claim(&mut self, n: u64) -> Result<()> {
        self.fits(n)?;
        let k = self.h.c.slots_for(n);
        let extent = if self.h.c.spsc { self.spsc_reserve(k)? } else { self.mpmc_claim(k)? };
        self.opened(extent, n);
        Ok(())
    }

    /// Notes an open reservation.
    #[inline]
    fn opened(&mut self, extent: Extent, n: u64) {
        let (payload, length) = self.h.c.place(extent.at, n);
        self.open = Some(Claim { extent, payload, length });
        self.h.hold(extent.head.wrapping_add(1));
    }

    fn reserved(&mut self, r: Result<()>) -> Result<Reservation<'_>> {
        self.h.leave(r)?;
        self.h.busy = true;
        Ok(Reservation { p: self })
    }

    /// The reservation that was [kept](Reservation::keep) open, or leaked.
    pub fn kept(&mut self) -> Option<Reservation<'_>> {
        self.open.is_some().then(|| Reservation { p: self })
    }

    /// Ends the open reservation: commits `n` bytes of it, or none.
    #[inline]
    fn settle(&mut self, n: Option<u64>) {
        let Some(claim) = self.open.take() else { return };
        self.h.idle();
        if !self.h.own() {
            return;
        }
        let spsc = self.h.c.spsc;
        match n {
            Some(n) => {
                let length = claim.length & !LENGTH_MASK | n;
                if spsc {
                    self.spsc_publish(claim.extent.at, n, length);
                } else {
                    self.mpmc_publish(claim.extent, n, length);
                }
            }
            None if spsc => order::store(&self.h.c.ctl().reserved_position, 0), // S5
            None => self.mpmc_discard(claim.extent),
        }
        self.h.hold(0);
        if n.is_none() {
            order::bump(&self.h.me().discarded, 1);
        }
    }

    pub(crate) fn fits(&self, n: u64) -> Result<()> {
        let max = self.h.c.max_message;
        if n > max {
            return Err(Error::TooLarge { got: n as usize, max: max as usize });
        }
        Ok(())
    }

    /// Notes that position `at` is in the way.
    #[cold]
    pub(crate) fn full(&mut self, at: u64) -> Error {
        let word = if self.h.c.spsc { 0 } else { order::load(self.h.c.state(at)) }; // P1
        self.h.blocked = Blockage { at, word };
        Error::Full
    }

    /// Something that ends a blocked call from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper::new(&self.h)
    }

    /// The id of this participant in the table.
    pub fn id(&self) -> u32 {
        self.h.id
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if self.h.own() {
            self.settle(None); // X1: a reservation that was leaked
            self.h.end_session();
        }
    }
}

/// Room for one message that is being filled in place: a slice of the ring. Dropping it discards the message.
///
/// The bytes are shared memory. A participant that breaks the protocol can change them; it cannot make them unreadable.
pub struct Reservation<'p> {
    p: &'p mut Producer,
}

impl Reservation<'_> {
    /// Publishes the whole message. Blocks: never. Fails when the memory is gone, or in a forked child.
    pub fn commit(self) -> Result<()> {
        let n = self.len();
        self.commit_len(n)
    }

    /// Publishes the first `n` bytes. With more than were reserved it is [`Error::TooLarge`], and the message is discarded.
    pub fn commit_len(self, n: usize) -> Result<()> {
        let max = self.len();
        if n > max {
            return Err(Error::TooLarge { got: n, max });
        }
        self.p.settle(Some(n as u64));
        if self.p.h.calm() {
            return Ok(());
        }
        let r = self.p.h.look();
        if matches!(r, Err(Error::Closed)) && self.p.h.own() {
            return Ok(()); // stopped, but committed
        }
        r
    }

    /// Gives the room back; the message never existed. It is counted.
    pub fn discard(self) {}

    /// Leaves the reservation open beyond this borrow: [`Producer::kept`] gets it again. Until then other calls on the handle are
    /// [`Error::Misuse`].
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Deref for Reservation<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match &self.p.open {
            // SAFETY: the claim is ours until this object is gone.
            Some(claim) => unsafe { claim.payload.slice() },
            None => &[],
        }
    }
}

impl DerefMut for Reservation<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &self.p.open {
            // SAFETY: as above, and the slice borrows this object.
            Some(claim) => unsafe { claim.payload.slice_mut() },
            None => &mut [],
        }
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.p.settle(None);
    }
}

//! Consumers.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::handle::{Handle, Stopper};
use crate::layout::STATE_CLAIMED;
use crate::lease::{Item, Lease};
use crate::order;
use crate::ring::Shared;
use crate::word::{deliveries, distance, free_word, ready_word, spsc_end, spsc_word, state_of};
use crate::Role;

/// Receives messages from a ring. Several may exist per process, each used by one thread at a time. Dropping it ends the registration.
pub struct Consumer {
    pub(crate) h: Handle,
    pub(crate) pos: u64,        // own candidate: every position below it has been taken by somebody
    pub(crate) seen: u64,       // MPMC: returns when the last scan for given-back messages found none
    pub(crate) given: u64,      // SPSC: space given back
    pub(crate) run_end: u64,    // SPSC: end of the run that pos is in, or not above pos
    pub(crate) run_length: u64, // SPSC: bytes of each message of that run
    pub(crate) lease: Lease,
    pub(crate) last: Delivery,
    pub(crate) options: ConsumerOptions,
    pub(crate) drained: Option<(Instant, u32)>, // when the grace began to count, and the roster then
}

// SAFETY: the pointers of an open lease lead to shared memory, which has no thread.
unsafe impl Send for Consumer {}

/// How a consumer behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsumerOptions {
    /// Wait for new producers at the end of the stream, instead of returning [`Error::End`].
    pub follow: bool,
    /// Wait so long for a successor when the last producer died without saying goodbye.
    pub grace: Duration,
}

/// Which message a copying receive got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Its place in the order of the ring.
    pub position: u64,
    /// How often it has been handed to a consumer, this time included; saturates at 49.
    pub deliveries: u32,
}

impl Consumer {
    pub(crate) fn new(shared: &Arc<Shared>, options: ConsumerOptions) -> Result<Consumer> {
        let h = Handle::register(shared, Role::Consumer)?;
        let c = h.c;
        let mut q = Consumer {
            h,
            pos: order::load(&c.ctl().consumer_position),        // C1
            seen: order::load(&c.ctl().returns).wrapping_sub(1), // C0: never equal, so the first call looks for messages given back
            given: 0,
            run_end: 0,
            run_length: 0,
            lease: Lease::new(),
            last: Delivery::default(),
            options,
            drained: None,
        };
        if c.spsc {
            q.spsc_adopt();
        }
        q.h.wake_everybody();
        q.h.shared.seg.sound()?;
        Ok(q)
    }

    /// Copies the next message to the front of `buf` and releases it, as one step: before it the message is in the ring, after it it has
    /// been received. Returns its size.
    ///
    /// Blocks: until a message is ready, the stream ends ([`Error::End`]) or the handle is stopped. [`Error::ShortBuffer`] leaves the message.
    /// Progress: wait-free (SPSC); lock-free (MPMC). A stalled producer delays the messages behind its claim.
    #[inline]
    pub fn receive(&mut self, buf: &mut [u8]) -> Result<usize> {
        if let Some(n) = self.fast(buf) {
            return if self.h.calm() { Ok(n) } else { self.h.leave(Ok(n)) };
        }
        if self.watch() {
            if let Some(n) = self.fast(buf) {
                return self.h.leave(Ok(n));
            }
        }
        self.receive_until(buf, None)
    }

    /// [`receive`](Consumer::receive) that gives up after a time, with [`Error::TimedOut`] or [`Error::Stalled`].
    #[inline]
    pub fn receive_timeout(&mut self, buf: &mut [u8], timeout: Duration) -> Result<usize> {
        if let Some(n) = self.fast(buf) {
            return if self.h.calm() { Ok(n) } else { self.h.leave(Ok(n)) };
        }
        self.receive_until(buf, Instant::now().checked_add(timeout))
    }

    /// Waits a microsecond at most for a message of one slot.
    fn watch(&mut self) -> bool {
        let c = self.h.c;
        let next = self.pos.wrapping_add(1);
        let want = if c.spsc { spsc_word(next, 0) } else { ready_word(next, 0) };
        let w = order::load(c.state(self.pos)); // D1, C2
        let nothing = if c.spsc {
            spsc_end(w, self.pos, c.slots).is_none() && distance(self.run_end, self.pos) <= 0
        } else {
            w == free_word(self.pos) || state_of(w) == STATE_CLAIMED
        };
        nothing && self.h.calm() && self.h.spin.watch(c.state(self.pos), w, want)
    }

    #[cold]
    fn receive_until(&mut self, buf: &mut [u8], deadline: Option<Instant>) -> Result<usize> {
        self.h.enter()?;
        let r = match self.attempt(buf) {
            Err(Error::Empty) => self.wait(deadline, |q| q.attempt(buf)),
            r => r,
        };
        self.h.leave(r)
    }

    /// Copies the next message out, or returns [`Error::Empty`], or [`Error::End`]. Blocks: never.
    #[inline]
    pub fn try_receive(&mut self, buf: &mut [u8]) -> Result<usize> {
        if let Some(n) = self.fast(buf) {
            return if self.h.calm() { Ok(n) } else { self.h.leave(Ok(n)) };
        }
        self.try_receive_slow(buf)
    }

    fn try_receive_slow(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.h.enter()?;
        let r = match self.attempt(buf) {
            Err(Error::Empty) => self.poll(|q| q.attempt(buf)),
            r => r,
        };
        self.h.leave(r)
    }

    /// The common case: a message of one slot is ready, and was never given back.
    #[inline(always)]
    fn fast(&mut self, buf: &mut [u8]) -> Option<usize> {
        if !self.h.ready() {
            return None;
        }
        if self.h.c.spsc {
            self.spsc_fast(buf)
        } else {
            self.mpmc_fast(buf)
        }
    }

    fn attempt(&mut self, buf: &mut [u8]) -> Result<usize> {
        if self.h.c.spsc {
            self.spsc_receive(buf)
        } else {
            self.mpmc_receive(buf)
        }
    }

    /// Leases the next message: it is read in place, and released when the [`Message`] is dropped. Blocks as [`receive`](Consumer::receive).
    ///
    /// Failure: if the process dies before the release, the ring's policy decides: redelivered with a higher count, or counted as lost.
    #[allow(clippy::should_implement_trait)] // no iterator can lend what it yields
    pub fn next(&mut self) -> Result<Message<'_>> {
        self.take(1, Wait::Forever)?;
        Ok(Message { q: self })
    }

    /// [`next`](Consumer::next) that gives up after a time.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Message<'_>> {
        self.take(1, Wait::Until(Instant::now().checked_add(timeout)))?;
        Ok(Message { q: self })
    }

    /// Leases the next message, or returns [`Error::Empty`], or [`Error::End`]. Blocks: never.
    pub fn try_next(&mut self) -> Result<Message<'_>> {
        self.take(1, Wait::Never)?;
        Ok(Message { q: self })
    }

    /// Leases 1 to `limit` messages in ascending positions. It never waits for a second one. Blocks as [`receive`](Consumer::receive).
    pub fn next_batch(&mut self, limit: usize) -> Result<Batch<'_>> {
        self.take(limit, Wait::Forever)?;
        Ok(Batch { q: self })
    }

    /// [`next_batch`](Consumer::next_batch) that gives up after a time.
    pub fn next_batch_timeout(&mut self, limit: usize, timeout: Duration) -> Result<Batch<'_>> {
        self.take(limit, Wait::Until(Instant::now().checked_add(timeout)))?;
        Ok(Batch { q: self })
    }

    /// Leases 1 to `limit` messages, or returns [`Error::Empty`], or [`Error::End`]. Blocks: never.
    pub fn try_next_batch(&mut self, limit: usize) -> Result<Batch<'_>> {
        self.take(limit, Wait::Never)?;
        Ok(Batch { q: self })
    }

    /// Leases up to `limit` messages, at once or after a wait.
    #[inline]
    fn take(&mut self, limit: usize, wait: Wait) -> Result<()> {
        if limit != 0 && self.h.ready() {
            let limit = limit.min(self.h.c.slots as usize);
            self.lease.make_room(limit);
            let taken = if self.h.c.spsc { self.spsc_lease_fast(limit) } else { self.mpmc_lease_fast(limit) };
            if taken && self.h.calm() {
                self.h.busy = true;
                return Ok(());
            }
            if taken {
                return self.taken(Ok(()));
            }
        }
        self.take_slow(limit, wait)
    }

    #[cold]
    fn take_slow(&mut self, limit: usize, wait: Wait) -> Result<()> {
        self.h.enter()?;
        if limit == 0 {
            return Err(Error::Misuse);
        }
        let limit = limit.min(self.h.c.slots as usize);
        self.lease.make_room(limit);
        let r = match self.lease(limit) {
            Err(Error::Empty) => match wait {
                Wait::Never => self.poll(|q| q.lease(limit)),
                Wait::Forever => self.wait(None, |q| q.lease(limit)),
                Wait::Until(deadline) => self.wait(deadline, |q| q.lease(limit)),
            },
            r => r,
        };
        self.taken(r)
    }

    fn taken(&mut self, r: Result<()>) -> Result<()> {
        self.h.leave(r)?;
        self.h.busy = true;
        Ok(())
    }

    fn lease(&mut self, limit: usize) -> Result<()> {
        if self.h.c.spsc {
            self.spsc_lease(limit)
        } else {
            self.mpmc_lease(limit)
        }
    }

    /// The messages of a lease that was [kept](Batch::keep) open, or leaked.
    pub fn kept(&mut self) -> Option<Batch<'_>> {
        self.lease.open().then(|| Batch { q: self })
    }

    /// Counts the messages of the new lease.
    #[inline]
    pub(crate) fn count_taken(&self) {
        order::bump(&self.h.me().received, self.lease.count as u64);
        let again = self.lease.again;
        if again > 0 {
            order::bump(&self.h.me().redelivered, again);
        }
    }

    /// Message `i` of the lease.
    #[inline]
    pub(crate) fn at(&self, i: usize) -> Item {
        if self.lease.run {
            self.run_item(self.lease.at(0).p.wrapping_add(i as u64))
        } else {
            self.lease.at(i)
        }
    }

    /// L4: notes the first message that is still held, or none.
    #[inline]
    pub(crate) fn unhold(&self) {
        let held = if self.lease.open() { self.at(self.lease.next).p.wrapping_add(1) } else { 0 };
        self.h.hold(held);
    }

    /// Releases the messages up to index `i`.
    #[inline]
    fn release(&mut self, i: usize) {
        if self.h.own() {
            if self.h.c.spsc {
                self.spsc_release(i);
            } else {
                self.mpmc_release(i);
            }
        } else {
            self.lease.next = i + 1;
        }
        if !self.lease.open() {
            self.h.idle();
        }
    }

    /// Gives everything that is still leased back.
    fn give_back(&mut self, by_policy: bool) {
        if self.lease.open() {
            if !self.h.own() {
                self.lease.next = self.lease.count;
            } else if self.h.c.spsc {
                self.spsc_return(by_policy);
            } else {
                self.mpmc_return(by_policy);
            }
        }
        self.h.idle();
    }

    /// The end of a guard object: releases what is left; while a panic unwinds, gives it back as if the consumer had died.
    #[inline]
    fn finish(&mut self) {
        if !self.lease.open() {
            self.h.idle();
        } else if std::thread::panicking() {
            self.give_back(true);
        } else {
            self.release_rest();
        }
    }

    /// Releases what is still leased, if anything is.
    #[inline]
    fn release_rest(&mut self) {
        if self.lease.open() {
            self.release(self.lease.count - 1);
        }
    }

    /// Which message the last successful copying receive got.
    pub fn last(&self) -> Delivery {
        self.last
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

#[derive(Clone, Copy)]
enum Wait {
    Never,
    Forever,
    Until(Option<Instant>),
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if self.h.own() {
            self.give_back(true); // X1: a lease that was leaked
            self.h.end_session();
        }
    }
}

/// A leased message, a slice of the ring. Dropping it releases the message; while a panic unwinds it is given back instead, as if the
/// consumer had died.
///
/// The bytes are shared memory. A participant that breaks the protocol can change them; it cannot make them unreadable.
pub struct Message<'c> {
    q: &'c mut Consumer,
}

impl Message<'_> {
    /// The message's place in the order of the ring.
    pub fn position(&self) -> u64 {
        self.q.at(0).p
    }

    /// How often the message has been handed to a consumer, this time included; it saturates at 49.
    pub fn deliveries(&self) -> u32 {
        deliveries(self.q.at(0).given)
    }

    /// Whether some other delivery may have been seen before.
    pub fn redelivered(&self) -> bool {
        self.deliveries() > 1
    }

    /// Ends the lease, also while a panic unwinds. Blocks: never. Progress: wait-free. Memory that was lost meanwhile is what the next call answers.
    pub fn release(self) {
        self.q.release_rest();
    }

    /// Leaves the lease open beyond this borrow: [`Consumer::kept`] gets it again. Until then other calls on the handle are [`Error::Misuse`].
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Gives the message back unprocessed: it is delivered again to somebody, with a higher count, whatever the policy for deaths is.
    pub fn give_back(self) {
        self.q.give_back(false);
    }
}

impl Deref for Message<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: leased until this object is gone, and the slice borrows it.
        unsafe { self.q.at(0).payload.slice() }
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        self.q.finish();
    }
}

/// A lease of several messages. Dropping it releases what is left; while a panic unwinds that is given back.
pub struct Batch<'c> {
    q: &'c mut Consumer,
}

/// One message of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View<'b> {
    /// The payload: a slice of the ring.
    pub bytes: &'b [u8],
    /// The message's place in the order of the ring.
    pub position: u64,
    /// How often it has been handed to a consumer, this time included.
    pub deliveries: u32,
}

impl Batch<'_> {
    /// How many messages are still leased.
    pub fn len(&self) -> usize {
        self.q.lease.count - self.q.lease.next
    }

    /// Whether all were released.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Message `i` of those that are still leased.
    pub fn get(&self, i: usize) -> Option<View<'_>> {
        (i < self.len()).then(|| {
            let it = self.q.at(self.q.lease.next + i);
            // SAFETY: leased until it is released, which needs this object mutably, and the slice borrows it.
            View { bytes: unsafe { it.payload.slice() }, position: it.p, deliveries: deliveries(it.given) }
        })
    }

    /// The messages that are still leased, in order.
    pub fn iter(&self) -> impl Iterator<Item = View<'_>> {
        (0..self.len()).map_while(|i| self.get(i))
    }

    /// Releases the first `n` messages of those that are still leased, or as many as there are.
    pub fn release_first(&mut self, n: usize) {
        let n = n.min(self.len());
        if n > 0 {
            self.q.release(self.q.lease.next + n - 1);
        }
    }

    /// Releases what is left, also while a panic unwinds. Blocks: never. Memory that was lost meanwhile is what the next call answers.
    pub fn release(self) {
        self.q.release_rest();
    }

    /// Leaves the lease open beyond this borrow: [`Consumer::kept`] gets it again. Until then other calls on the handle are [`Error::Misuse`].
    pub fn keep(self) {
        std::mem::forget(self);
    }

    /// Gives back what is left: it is delivered again to somebody, with a higher count, whatever the policy for deaths is.
    pub fn give_back(self) {
        self.q.give_back(false);
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.q.finish();
    }
}

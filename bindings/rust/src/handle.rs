//! What producers and consumers have in common: a registration.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Instant;

use crate::core::Core;
use crate::create::now;
use crate::error::{Error, FormatError, Result};
use crate::event::{Event, ALL};
use crate::fork::TROUBLE;
use crate::layout::{Participant, PUBLISH_FENCED};
use crate::lock::Lock;
use crate::order;
use crate::ring::Shared;
use crate::wait::{Spin, StallWatch};
use crate::word::is_owned;
use crate::Role;

/// What an unsuccessful attempt found in its way: a state word at a position.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Blockage {
    pub(crate) at: u64,
    pub(crate) word: u64,
}

impl Blockage {
    pub(crate) fn owned(&self) -> bool {
        is_owned(self.word)
    }
}

pub(crate) struct Handle {
    pub(crate) c: Core,
    me: *const Participant, // valid as long as shared
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: u32,
    pub(crate) role: Role,
    pub(crate) fenced: bool, // publish with a full fence (FORMAT 8.4)
    pub(crate) busy: bool,   // a lease or reservation is open, or the ring is corrupt
    calm: u32,               // TROUBLE when this handle was last found to be in order
    pub(crate) blocked: Blockage,
    broken: Option<FormatError>,
    lock: Lock,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) spin: Spin,
    pub(crate) looked: Option<Instant>, // last look for the dead by a try call
    pub(crate) roster: u32,             // roster at that look
    pub(crate) peer: u32,               // a participant of the other role that was alive at the last look
    pub(crate) stalled: StallWatch,
}

// SAFETY: the pointer leads to shared memory, which has no thread.
unsafe impl Send for Handle {}

impl Handle {
    /// Begins a session in the role, R1..R5.
    pub(crate) fn register(shared: &Arc<Shared>, role: Role) -> Result<Handle> {
        let calm = TROUBLE.load(Ordering::Acquire); // before anything that may add to it
        let (id, lock, publish) = shared.register(role)?;
        Ok(Handle {
            c: shared.core,
            me: shared.core.participant(id),
            shared: shared.clone(),
            id,
            role,
            fenced: publish == PUBLISH_FENCED as u32,
            busy: false,
            calm,
            blocked: Blockage::default(),
            broken: None,
            lock,
            stop: Arc::default(),
            spin: Spin::new(shared.core.spsc),
            looked: None,
            roster: 0,
            peer: 0,
            stalled: StallWatch::default(),
        })
    }

    #[inline(always)]
    pub(crate) fn me(&self) -> &Participant {
        // SAFETY: the entry lies in the mapping, which shared keeps.
        unsafe { &*self.me }
    }

    /// Whether nothing has happened that a call must look at.
    #[inline(always)]
    pub(crate) fn calm(&self) -> bool {
        TROUBLE.load(Ordering::Relaxed) == self.calm
    }

    /// Begins a call: see [`enter`](Handle::enter). A call on the fast path answers a bool or an Option, which travel in registers; everything
    /// that can fail comes later, in functions that are not inlined.
    #[inline(always)]
    pub(crate) fn ready(&self) -> bool {
        self.calm() && !self.busy
    }

    /// Begins a call, or says why not.
    pub(crate) fn enter(&mut self) -> Result<()> {
        if self.ready() {
            return Ok(());
        }
        self.look()?;
        match &self.broken {
            Some(e) => Err(Error::Format(Box::new(e.clone()))),
            None if self.busy => Err(Error::Misuse),
            None => Ok(()),
        }
    }

    /// Whether a fork, a fault or a stop concerns this handle.
    pub(crate) fn look(&mut self) -> Result<()> {
        let now = TROUBLE.load(Ordering::Acquire); // pairs with whoever adds: what it is about is seen below
        if self.lock.inherited() || self.stop.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.shared.seg.sound()?;
        self.calm = now;
        Ok(())
    }

    /// Ends a call.
    pub(crate) fn leave<T>(&mut self, r: Result<T>) -> Result<T> {
        self.shared.seg.sound()?;
        if let Err(Error::Format(e)) = &r {
            self.broken = Some((**e).clone());
            self.busy = true; // nobody enters again
        }
        if matches!(r, Err(Error::Full)) {
            self.gone()?; // it would stay full, since nobody new can come
        }
        r
    }

    /// L4: notes the first position of an open lease or reservation, plus 1, or that there is none (0).
    #[inline(always)]
    pub(crate) fn hold(&self, v: u64) {
        order::store(&self.me().held, v);
    }

    /// Wakes up to `n` sleepers after something was published.
    #[cold]
    pub(crate) fn wake(&self, e: Event<'_>, n: u64) {
        let calls = e.notify(n);
        if calls > 0 {
            order::bump(&self.me().wakes, calls);
        }
    }

    /// Wakes consumers if some may be asleep.
    #[inline(always)]
    pub(crate) fn wake_consumers(&self, n: u64) {
        let e = self.c.not_empty();
        if e.pending() {
            self.wake(e, n);
        }
    }

    /// Wakes all producers if some may be asleep.
    #[inline(always)]
    pub(crate) fn wake_producers(&self) {
        let e = self.c.not_full();
        if e.pending() {
            self.wake(e, ALL);
        }
    }

    /// Makes every sleeper look again.
    pub(crate) fn wake_everybody(&self) {
        self.c.not_empty().notify_all();
        self.c.not_full().notify_all();
        order::bump(&self.me().wakes, 2);
    }

    /// Whether this process may still write to the ring through the handle: not in a forked child, and not when the memory is gone.
    pub(crate) fn own(&self) -> bool {
        !self.lock.inherited() && !self.shared.seg.map.lost()
    }

    /// X2..X4. What the handle held was given up before; X5 follows when the lock is dropped.
    pub(crate) fn end_session(&self) {
        let me = self.me();
        if self.role == Role::Producer {
            self.shared.recover_all(); // so that who died before this close is known to have ended before it
            order::write(&me.ended, now() << 1); // X2
        }
        order::add(me.session(self.role).closed, 1); // X2
        order::add(&self.c.ctl().roster, 1); // X3
        self.wake_everybody(); // X4
    }

    /// The end of an object that was leaked or dropped in the middle: makes calls possible again.
    pub(crate) fn idle(&mut self) {
        self.busy = self.broken.is_some();
    }
}

/// Ends a blocked call from another thread: that call, and every later one on the handle, returns [`Error::Closed`].
#[derive(Clone)]
pub struct Stopper {
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
}

impl Stopper {
    pub(crate) fn new(h: &Handle) -> Stopper {
        Stopper { shared: h.shared.clone(), stop: h.stop.clone() }
    }

    /// Stops the handle. Further calls do nothing.
    pub fn stop(&self) {
        if self.stop.swap(true, Ordering::AcqRel) || self.shared.seg.keeper.file.inherited() {
            return;
        }
        TROUBLE.fetch_add(1, Ordering::Release);
        self.shared.core.not_empty().notify_all();
        self.shared.core.not_full().notify_all();
    }
}

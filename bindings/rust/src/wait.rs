//! Waiting, `docs/FORMAT.md` section 8: a short spin, then the kernel, in bounded sleeps. After each sleep the waiter looks for what nobody
//! would wake it for: a dead participant in its way, the end of the stream, nobody left to read.

use std::sync::atomic::AtomicU64;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::census::has_membarrier;
use crate::consumer::Consumer;
use crate::error::{Error, Result, Stalled};
use crate::handle::{Blockage, Handle};
use crate::layout::{PUBLISH_FENCED, PUBLISH_MEMBARRIER, STATE_CLAIMED};
use crate::producer::Producer;
use crate::word::{owner, stand, state_of, Stand};
use crate::{order, sys, Role};

/// Bounds every sleep: what a waker's death costs, and with it the notice of a death.
const TICK: Duration = Duration::from_millis(40);
/// Bounds it while a participant is registered that neither fences nor can be fenced (8.4).
const POLLING_TICK: Duration = Duration::from_millis(1);
/// Bounds the first sleep at the end of a stream while another consumer holds a message: its release wakes no consumer. They double.
const HELD_TICK: Duration = Duration::from_millis(5);
/// How often a try call that finds its way blocked looks for the dead.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long somebody holds on to one position before it is called stalled.
pub(crate) const STALL_AFTER: Duration = Duration::from_millis(100);

const SPIN_LEAST: Duration = Duration::from_micros(20); // always done: parking costs as much
const SPIN_MOST: Duration = Duration::from_micros(60); // and while it pays
const RIVALRY: u32 = 64; // MPMC: spins for which a consumer remembers that another one was faster
const WATCH_LOOKS: u32 = 256; // looks at one word before anything else is tried,
const LOOK_APART: u128 = 16; // so many nanoseconds apart in an MPMC ring
const SPIN_HOT: u32 = 32; // attempts without a pause, in an MPMC ring with the one above: on some processors one takes half as long as the news
const SPIN_CLOSE: u32 = 64; // attempts that follow each other closely
const SPIN_LOOK: u32 = 16; // attempts between two looks at the clock, behind those
const SPIN_FAR: u32 = 15; // most extra pauses before the first attempt
const STRETCH_LEAST: u64 = 16; // slots of a ring: in a smaller one the consumers would be idle while a producer waits for more than one,
const STRETCH_MOST: u64 = 32; // and how many slots ahead it looks, at most, in front of a full MPMC ring

/// How long it paid to spin, and how far to stay behind the other side. Who finds something at the first attempt again and again treads on
/// its heels and takes the line that it is writing; a longer first pause lets it get ahead.
pub(crate) struct Spin {
    budget: Duration,
    distance: u32,
    /// Pauses between two looks at a word that is about to be written. A producer writes the word of an MPMC ring twice, and should not lose its
    /// line in between.
    apart: u32,
    rivals: u32,
}

impl Spin {
    pub(crate) fn new(spsc: bool) -> Spin {
        Spin { budget: Duration::ZERO, distance: 0, apart: if spsc { 0 } else { pauses(LOOK_APART) }, rivals: 0 }
    }

    fn keep_distance(&mut self, close: bool) {
        self.distance = if close { (2 * self.distance + 1).min(SPIN_FAR) } else { self.distance / 2 };
    }

    /// Looks at a state word until it is `want`, for some microseconds at most. The first part of a spin: nothing but loads, so that the news of
    /// a message is in use as soon as it is there. In an MPMC ring, where a CAS on that word follows, each look takes the line for writing at once; but
    /// not among rivals, who would only take it from each other.
    pub(crate) fn watch(&mut self, word: &AtomicU64, was: u64, want: u64) -> bool {
        if alone() {
            return false;
        }
        let to_write = self.rivals == 0;
        self.rivals = self.rivals.saturating_sub(1);
        (0..self.distance).for_each(|_| std::hint::spin_loop());
        for i in 0..WATCH_LOOKS {
            if self.apart > 0 {
                (0..self.apart).for_each(|_| std::hint::spin_loop());
                if to_write {
                    order::prefetch_to_write(word);
                }
            }
            let w = order::load(word); // D1, C2
            if w == want {
                self.keep_distance(i == 0);
                return true;
            }
            if w != was && state_of(w) != STATE_CLAIMED {
                self.rivals = RIVALRY;
                return false; // a run, or a message of several slots; or somebody else took it
            }
        }
        self.distance = 0;
        false
    }

    /// Tries again and again for a short time, while the answer is `again`.
    fn spin<T>(h: &mut T, spin: fn(&mut T) -> &mut Spin, mut attempt: impl FnMut(&mut T) -> bool) -> bool {
        if alone() {
            return false; // there is nobody to spin for
        }
        let (budget, first, apart) = (spin(h).budget.max(SPIN_LEAST), spin(h).distance, spin(h).apart);
        let mut start = None;
        let mut attempts = 0;
        loop {
            attempts += 1;
            if attempts >= SPIN_CLOSE && attempts % SPIN_LOOK == 0 {
                // Most spins are over before they are worth a look at the clock, which costs as much as some attempts.
                if start.get_or_insert_with(Instant::now).elapsed() > budget {
                    break;
                }
            }
            let pauses = match attempts {
                1 => first,
                _ if attempts <= SPIN_HOT => apart,
                _ if attempts <= SPIN_CLOSE => 1,
                _ => 4,
            };
            (0..pauses).for_each(|_| std::hint::spin_loop());
            if attempt(h) {
                let s = spin(h);
                s.keep_distance(attempts == 1);
                s.budget = (s.budget.max(SPIN_LEAST) * 2).min(SPIN_MOST);
                return true;
            }
        }
        let s = spin(h);
        *s = Spin { budget: s.budget / 2, distance: 0, ..*s };
        false
    }
}

/// How many pauses take about `ns`, at least 1: one takes 1 to 140 cycles, by processor.
fn pauses(ns: u128) -> u32 {
    const TIMED: u32 = 100;
    static TOOK: OnceLock<u128> = OnceLock::new();
    let took = *TOOK.get_or_init(|| {
        let one = |_| {
            let start = Instant::now();
            (0..TIMED).for_each(|_| std::hint::spin_loop());
            start.elapsed().as_nanos()
        };
        (0..5).map(one).min().unwrap_or(0).max(u128::from(TIMED)) // a clock that does not tell such short times apart
    });
    (u128::from(TIMED) * ns / took).max(1) as u32
}

/// Whether the machine has one processor only. How many this process may use says nothing: one that is bound to a processor waits for others elsewhere.
fn alone() -> bool {
    static ALONE: OnceLock<bool> = OnceLock::new();
    *ALONE.get_or_init(|| match std::fs::read_to_string("/sys/devices/system/cpu/online") {
        Ok(list) => !list.contains(['-', ',']), // "0", not "0-3" or "0,2"
        Err(_) => std::thread::available_parallelism().is_ok_and(|n| n.get() == 1),
    })
}

/// Since when one word has stood in the way.
#[derive(Default)]
pub(crate) struct StallWatch {
    what: Blockage,
    since: Option<Instant>,
}

impl StallWatch {
    fn look(&mut self, b: Blockage) {
        if self.since.is_none() || self.what != b {
            *self = StallWatch { what: b, since: Some(Instant::now()) };
        }
    }
}

impl Handle {
    /// W2: how long to sleep at most, after making sure that plain-store publishers cannot be missed.
    fn nap(&self) -> Duration {
        let (mut polling, mut plain) = (false, false);
        for id in 0..self.c.participants {
            // Of either role: who gives back or discards wakes those who do the same as he.
            let m = self.c.participant(id);
            if id == self.id || !m.open() {
                continue;
            }
            let how = u64::from(order::load(&m.publish));
            if how & PUBLISH_FENCED == 0 {
                plain |= how & PUBLISH_MEMBARRIER != 0;
                polling |= how & PUBLISH_MEMBARRIER == 0;
            }
        }
        if plain {
            polling |= !(has_membarrier() && sys::membarrier(sys::MEMBARRIER_GLOBAL_EXPEDITED));
        }
        if polling {
            POLLING_TICK
        } else {
            TICK
        }
    }

    /// Whether the ring is gone: removed by force, or truncated.
    pub(crate) fn gone(&self) -> Result<()> {
        self.shared.gone()
    }

    /// Recovers a dead participant that blocks the way, and dead consumers that hold a lease. Whether something was repaired.
    fn repair(&self) -> bool {
        let c = &self.c;
        if c.spsc {
            return false; // what a dead one held is given back by its successor
        }
        let mut repaired = self.blocked.owned() && self.shared.recover_if_dead(owner(self.blocked.word));
        for id in 0..c.participants {
            let m = c.participant(id);
            let holds = order::load(&m.held) != 0 && m.session(Role::Consumer).open(); // V0
            repaired |= holds && self.shared.recover_if_dead(id);
        }
        repaired
    }

    /// How long to sleep, or why no longer. The end of a wait answers to an error only after one more attempt.
    fn until(&mut self, deadline: Option<Instant>, nap: Duration) -> Result<Duration> {
        self.look()?;
        let Some(deadline) = deadline else { return Ok(nap) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left > Duration::ZERO {
            return Ok(nap.min(left));
        }
        self.stalled.look(self.blocked);
        let since = self.stalled.since.map_or(Duration::ZERO, |s| s.elapsed());
        if self.c.spsc || !self.blocked.owned() || since < STALL_AFTER {
            return Err(Error::TimedOut);
        }
        let id = owner(self.blocked.word);
        let claimed = state_of(self.blocked.word) == STATE_CLAIMED;
        Err(Error::Stalled(Box::new(Stalled {
            role: if claimed { Role::Producer } else { Role::Consumer },
            pid: if id < self.c.participants { order::peek(&self.c.participant(id).pid) } else { 0 }, // E3
            position: self.blocked.at,
        })))
    }

    /// Whether a try call may look for the dead again.
    fn may_look(&mut self) -> bool {
        let now = Instant::now();
        let due = self.looked.is_none_or(|t| now - t >= LOOK_EVERY);
        if due {
            self.looked = Some(now);
        }
        due
    }
}

impl Producer {
    /// Whether the ring is full as far as half of it ahead, or [`STRETCH_MOST`] slots. A producer that took each slot of an MPMC ring as it comes free
    /// would fetch its line from the consumer that is about to leave the next one, message by message. An SPSC ring gives space back in strides.
    fn is_crammed(&self) -> bool {
        let c = self.h.c;
        if c.spsc {
            return false;
        }
        let ahead = if c.slots < STRETCH_LEAST { 0 } else { (c.slots / 2).min(STRETCH_MOST) };
        let t = self.pos.wrapping_add(ahead);
        stand(order::load(c.state(t)), t, c.slots).0 == Stand::Old // P1
    }

    /// Makes `attempt`, which answered `Full`, succeed, or says why it cannot.
    #[cold]
    pub(crate) fn wait<T>(&mut self, deadline: Option<Instant>, mut attempt: impl FnMut(&mut Producer) -> Result<T>) -> Result<T> {
        let mut r = Err(Error::Full);
        self.coarse = true;
        let done = Spin::spin(
            self,
            |p| &mut p.h.spin,
            |p| {
                if p.is_crammed() {
                    return false;
                }
                r = attempt(p);
                !matches!(r, Err(Error::Full))
            },
        );
        self.coarse = false;
        if !done {
            r = attempt(self); // there may be less than that
        }
        if !matches!(r, Err(Error::Full)) {
            return r;
        }
        self.h.stalled = StallWatch::default();
        let shared = self.h.shared.clone();
        let e = shared.core.not_full();
        let mut key = e.arrive(); // W1
        loop {
            let nap = self.h.nap(); // W2
            match attempt(self) {
                Err(Error::Full) => {} // W3
                r => return r,
            }
            self.h.stalled.look(self.h.blocked);
            match self.look_while_full(&mut attempt) {
                Err(Error::Full) => {}
                r => return r,
            }
            match self.h.until(deadline, nap) {
                Ok(nap) => {
                    e.wait(key, nap.as_nanos() as u64); // W4
                    order::bump(&self.h.me().sleeps, 1);
                }
                Err(end) => {
                    return match attempt(self) {
                        Err(Error::Full) => Err(end),
                        r => r,
                    }
                }
            }
            if !e.still_arrived(key) {
                key = e.arrive();
            }
        }
    }

    /// Looks for what nobody would wake a producer for. `Full`: go on waiting.
    fn look_while_full<T>(&mut self, attempt: &mut impl FnMut(&mut Producer) -> Result<T>) -> Result<T> {
        self.h.gone()?;
        if self.h.repair() {
            match attempt(self) {
                Err(Error::Full) => {}
                r => return r,
            }
        }
        let shared = self.h.shared.clone();
        if self.wait_for_consumers || shared.alive(Role::Consumer, &mut self.h.peer) != (true, false) {
            return Err(Error::Full);
        }
        shared.recover_all();
        match attempt(self) {
            Err(Error::Full) => {}
            r => return r,
        }
        match shared.alive(Role::Consumer, &mut self.h.peer) {
            (_, true) => Err(Error::Full),
            _ => Err(Error::NoConsumers),
        }
    }

    /// What a try call does that found the ring full: now and then it looks for the dead in its way. Whether something was repaired.
    #[cold]
    pub(crate) fn unblock(&mut self) -> bool {
        !self.h.c.spsc && self.h.may_look() && self.h.repair()
    }
}

impl Consumer {
    /// Makes `attempt`, which answered `Empty`, succeed, or says why it cannot.
    #[cold]
    pub(crate) fn wait<T>(&mut self, deadline: Option<Instant>, mut attempt: impl FnMut(&mut Consumer) -> Result<T>) -> Result<T> {
        let mut r = Err(Error::Empty);
        let done = Spin::spin(
            self,
            |q| &mut q.h.spin,
            |q| {
                r = attempt(q);
                !matches!(r, Err(Error::Empty))
            },
        );
        if done {
            return r;
        }
        self.h.stalled = StallWatch::default();
        let shared = self.h.shared.clone();
        let e = shared.core.not_empty();
        let mut key = e.arrive(); // W1
        let mut held = HELD_TICK;
        loop {
            let mut nap = self.h.nap(); // W2
            let mut r = attempt(self); // W3
            if matches!(r, Err(Error::Empty)) {
                self.h.stalled.look(self.h.blocked);
                let mut most = held;
                r = self.look_while_empty(&mut attempt, &mut most);
                if most < Duration::MAX {
                    held = (2 * held).min(TICK);
                    nap = nap.min(most);
                }
            }
            if !matches!(r, Err(Error::Empty)) {
                self.baton();
                return r;
            }
            match self.h.until(deadline, nap) {
                Ok(nap) => {
                    e.wait(key, nap.as_nanos() as u64); // W4
                    order::bump(&self.h.me().sleeps, 1);
                }
                Err(end) => {
                    return match attempt(self) {
                        Err(Error::Empty) => Err(end),
                        r => {
                            self.baton();
                            r
                        }
                    }
                }
            }
            if !e.still_arrived(key) {
                key = e.arrive();
            }
        }
    }

    /// Wakes one more sleeper when more is ready: a message that completes a stretch wakes one consumer, and those behind it woke theirs too
    /// early.
    fn baton(&mut self) {
        if !self.h.c.spsc && self.h.c.not_empty().pending() {
            let blocked = self.h.blocked;
            if self.mpmc_find().is_ok() {
                self.h.wake(self.h.c.not_empty(), 1);
            }
            self.h.blocked = blocked;
        }
    }

    /// Looks for what nobody would wake a consumer for. `Empty`: go on waiting, at most for `most`, which comes as the sleep while somebody
    /// else holds a message and goes as MAX when nothing bounds it.
    fn look_while_empty<T>(&mut self, attempt: &mut impl FnMut(&mut Consumer) -> Result<T>, most: &mut Duration) -> Result<T> {
        let held = std::mem::replace(most, Duration::MAX);
        self.h.gone()?;
        let c = self.h.c;
        let roster = &c.ctl().roster;
        let mut before = order::load(roster); // E1
        if self.h.repair() {
            match attempt(self) {
                Err(Error::Empty) => {}
                r => return r,
            }
        }
        let shared = self.h.shared.clone();
        if self.options.follow || shared.alive(Role::Producer, &mut self.h.peer) != (true, false) {
            return Err(Error::Empty);
        }
        if shared.recover_all() {
            before = order::load(roster); // E1
        }
        if shared.alive(Role::Producer, &mut self.h.peer).1 {
            return Err(Error::Empty);
        }
        match attempt(self) {
            Err(Error::Empty) => {}
            r => return r,
        }
        if !c.spsc && shared.unreleased() || order::load(roster) != before {
            *most = held;
            return Err(Error::Empty); // E1
        }
        let left = self.grace_left(before);
        if left > Duration::ZERO {
            *most = left;
            return Err(Error::Empty);
        }
        Err(Error::End)
    }

    /// How long to wait for a successor of a last producer that died. The time begins anew whenever the roster has changed.
    fn grace_left(&mut self, roster: u32) -> Duration {
        if self.options.grace.is_zero() || !self.h.shared.last_producer_died() {
            return Duration::ZERO;
        }
        let since = match self.drained {
            Some((since, at)) if at == roster => since,
            _ => Instant::now(),
        };
        self.drained = Some((since, roster));
        self.options.grace.saturating_sub(since.elapsed())
    }

    /// What a try call does that found nothing: when the roster changed, and now and then, it looks for the dead and for the end of the
    /// stream.
    #[cold]
    pub(crate) fn poll<T>(&mut self, mut attempt: impl FnMut(&mut Consumer) -> Result<T>) -> Result<T> {
        let roster = order::load(&self.h.c.ctl().roster); // E1
        if !self.h.may_look() && roster == self.h.roster {
            return Err(Error::Empty);
        }
        self.h.roster = roster;
        self.look_while_empty(&mut attempt, &mut HELD_TICK.clone())
    }
}

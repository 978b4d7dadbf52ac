//! Event words, `docs/FORMAT.md` section 8.1: epoch in the high half, which is the futex word, arrivals in the low half.
//!
//! Arrivals are never taken back, because a killed sleeper could not do it: a notifier that finds nobody asleep clears them.

use std::sync::atomic::AtomicU64;

use crate::{order, sys};

const ARRIVALS: u64 = u32::MAX as u64;
const EPOCH: u64 = 1 << 32;
/// Bounds a CAS loop that honest participants leave at once. Who gives up costs a sleeper one tick at most.
const TRIES: usize = 1 << 12;

/// `n` of [`Event::notify`] that means everybody.
pub(crate) const ALL: u64 = 1 << 32;

#[derive(Clone, Copy)]
pub(crate) struct Event<'a>(pub(crate) &'a AtomicU64);

impl Event<'_> {
    fn epoch(self) -> *const u32 {
        // The high half of a little-endian word.
        std::ptr::from_ref(self.0).cast::<u32>().wrapping_add(1)
    }

    /// W1: announces a sleeper and returns the epoch to sleep on. The caller looks at its condition once more.
    pub(crate) fn arrive(self) -> u32 {
        (order::arrive(self.0) >> 32) as u32
    }

    /// Whether an arrival under `key` still stands, so that the next sleep needs no new one.
    pub(crate) fn still_arrived(self, key: u32) -> bool {
        let v = order::load(self.0); // W5
        (v >> 32) as u32 == key && v & ARRIVALS != 0
    }

    /// Whether somebody may be asleep. It is all that the fast path does about waking.
    #[inline(always)]
    pub(crate) fn pending(self) -> bool {
        order::arrivals(self.0) & ARRIVALS != 0 // N1
    }

    /// W4: sleeps while the epoch is `key`.
    pub(crate) fn wait(self, key: u32, nanos: u64) {
        // SAFETY: the word lies in a mapping that outlives self.
        unsafe { sys::futex_wait(self.epoch(), key, nanos) }
    }

    /// Wakes at least min(n, sleepers) after something was published; returns the number of system calls.
    #[cold]
    pub(crate) fn notify(self, n: u64) -> u64 {
        for _ in 0..TRIES {
            let v = order::arrivals(self.0); // N1
            if v & ARRIVALS == 0 {
                return 0;
            }
            let all = n >= v & ARRIVALS;
            let advanced = v.wrapping_add(EPOCH);
            let next = if all { advanced & !ARRIVALS } else { advanced };
            if !order::cas(self.0, v, next) {
                continue; // N2
            }
            if all {
                self.wake(i32::MAX);
            } else if self.wake(n as i32) == 0 {
                order::cas(self.0, next, next.wrapping_add(EPOCH) & !ARRIVALS); // N3: fails when somebody arrived meanwhile
            }
            return 1;
        }
        0
    }

    /// Advances the epoch and wakes everybody, also those who are about to sleep.
    pub(crate) fn notify_all(self) {
        for _ in 0..TRIES {
            let v = order::load(self.0); // N4
            if order::cas(self.0, v, v.wrapping_add(EPOCH) & !ARRIVALS) {
                break; // N2
            }
        }
        self.wake(i32::MAX);
    }

    fn wake(self, n: i32) -> i64 {
        // SAFETY: as in `wait`. The only failure is a mapping that is gone; then nobody can be asleep on it.
        unsafe { sys::futex_wake(self.epoch(), n) }
    }
}

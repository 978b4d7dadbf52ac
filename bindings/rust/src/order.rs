//! Every memory ordering of this crate.
//!
//! The other modules touch shared words through these functions only. The comment at a call names the step of `docs/FORMAT.md`; the
//! weakest order that the step needs, and what breaks without it, stand in `docs/ORDERING.md` under the same tag.

use core::sync::atomic::{compiler_fence, fence, AtomicU32, AtomicU64, Ordering};

/// An atomic integer of the segment, 32 or 64 bits wide.
pub(crate) trait Word {
    type Value: Copy;
    fn get(&self, order: Ordering) -> Self::Value;
    fn put(&self, v: Self::Value, order: Ordering);
    fn add(&self, n: Self::Value, order: Ordering) -> Self::Value;
    fn swap(&self, old: Self::Value, new: Self::Value, order: Ordering, failed: Ordering) -> bool;
}

macro_rules! word {
    ($atomic:ty, $value:ty) => {
        impl Word for $atomic {
            type Value = $value;
            #[inline(always)]
            fn get(&self, order: Ordering) -> $value {
                self.load(order)
            }
            #[inline(always)]
            fn put(&self, v: $value, order: Ordering) {
                self.store(v, order)
            }
            #[inline(always)]
            fn add(&self, n: $value, order: Ordering) -> $value {
                self.fetch_add(n, order)
            }
            #[inline(always)]
            fn swap(&self, old: $value, new: $value, order: Ordering, failed: Ordering) -> bool {
                self.compare_exchange(old, new, order, failed).is_ok()
            }
        }
    };
}
word!(AtomicU32, u32);
word!(AtomicU64, u64);

/// rlx: C3 D2 E2 E3 K2 L3 (own word) V6 (held, ended).
#[inline(always)]
pub(crate) fn peek<W: Word>(w: &W) -> W::Value {
    w.get(Ordering::Relaxed)
}

/// acq: F2 P0 P1 P2 C0 C1 C2 C3 (give back, and where a second look at the word follows) D1 D2 (run_end) D4 S1 S5 L2 J1 V0 V2 V3 V6 V8 V9 E1 X5 X6 W2 W4 W5 N4.
#[inline(always)]
pub(crate) fn load<W: Word>(w: &W) -> W::Value {
    w.get(Ordering::Acquire)
}

/// Asks for the cache line of a word for writing, so that nobody else has it, and does not wait for it. It orders nothing.
#[inline(always)]
pub(crate) fn prefetch_to_write(w: &AtomicU64) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch does nothing that the program can see.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) w, options(nostack, preserves_flags))
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = w;
}

/// rlx: F0 P4 S3 D2 R3 X2 (ended) V6 (held, ended). What comes later publishes it.
#[inline(always)]
pub(crate) fn write<W: Word>(w: &W, v: W::Value) {
    w.put(v, Ordering::Relaxed)
}

/// rel: F1 P5 P7 C5 C6 S2 S3 (length of a run that is rewritten) S5 D2 D5 L2 (lease_end) L3 L4 J1 J2 J3 J4 X6.
#[inline(always)]
pub(crate) fn store<W: Word>(w: &W, v: W::Value) {
    w.put(v, Ordering::Release)
}

/// P6 S4 D4 C5 L3 rel, and what N1 needs behind it: a full fence, or, in a process that a sleeper's barrier reaches (W2), nothing but the
/// order of the compiler.
#[inline(always)]
pub(crate) fn publish(w: &AtomicU64, v: u64, fenced: bool) {
    w.store(v, Ordering::Release);
    settle(fenced);
}

/// P3 C4 L2 V3 V8 N2 N3 Y1 acqrel.
#[inline(always)]
pub(crate) fn cas<W: Word>(w: &W, old: W::Value, new: W::Value) -> bool {
    w.swap(old, new, Ordering::AcqRel, Ordering::Acquire)
}

/// C4 acqrel, and what N1 needs behind it: see [`publish`].
#[inline(always)]
pub(crate) fn cas_publish(w: &AtomicU64, old: u64, new: u64, fenced: bool) -> bool {
    let done = w.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    settle(fenced);
    done
}

#[inline(always)]
fn settle(fenced: bool) {
    if fenced {
        fence(Ordering::SeqCst);
    } else {
        compiler_fence(Ordering::SeqCst);
    }
}

/// N1 sc REQUIRED, pairs W1.
#[inline(always)]
pub(crate) fn arrivals(w: &AtomicU64) -> u64 {
    w.load(Ordering::SeqCst)
}

/// W1 sc REQUIRED, pairs N1; with W3 behind it, so a full fence.
#[inline]
pub(crate) fn arrive(w: &AtomicU64) -> u64 {
    let v = w.fetch_add(1, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    v
}

/// R4 sc, with the first N1 behind it, so a full fence; R5 X2 (closed) X3 V4 V6 rel.
#[inline]
pub(crate) fn add<W: Word>(w: &W, n: W::Value) {
    w.add(n, Ordering::SeqCst);
    fence(Ordering::SeqCst);
}

/// K1 rlx: a counter that only its owner writes.
#[inline(always)]
pub(crate) fn bump(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

//! Faults. When somebody truncates a segment, touching the mapping raises SIGBUS. The handler puts private zero pages over that mapping and
//! marks it as lost, so the call that was interrupted goes on, and answers `SegmentLost`. Slices that were handed out read as zeros.

use std::cell::UnsafeCell;
use std::os::raw::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Once;

use crate::fork::TROUBLE;
use crate::sys;

/// How many mappings can be guarded at once; further ones are not.
const RANGES: usize = 1024;

struct Range {
    base: AtomicUsize, // 0: free, 1: being set up
    len: AtomicUsize,
    lost: AtomicBool,
}

#[allow(clippy::declare_interior_mutable_const)] // only to fill the array
const FREE: Range = Range { base: AtomicUsize::new(0), len: AtomicUsize::new(0), lost: AtomicBool::new(false) };
static TABLE: [Range; RANGES] = [FREE; RANGES];

struct Old(UnsafeCell<sys::SigAction>);
// SAFETY: written once, before the handler that reads it is installed.
unsafe impl Sync for Old {}
static OLD: Old = Old(UnsafeCell::new(sys::SigAction { handler: 0, mask: [0; 16], flags: 0, restorer: 0 }));

static DISABLED: AtomicBool = AtomicBool::new(false);

/// Keeps this crate from installing its handler for SIGBUS. Call it before the first ring is opened. Then a truncated segment ends the
/// process; System V segments and memfds cannot be truncated.
pub fn disable_fault_guard() {
    DISABLED.store(true, Ordering::Relaxed);
}

/// A guarded range of addresses.
#[derive(Debug)]
pub(crate) struct Guard(Option<usize>);

impl Guard {
    pub(crate) fn none() -> Guard {
        Guard(None)
    }

    pub(crate) fn new(base: usize, len: usize) -> Guard {
        if DISABLED.load(Ordering::Relaxed) || !install() {
            return Guard(None);
        }
        for (i, r) in TABLE.iter().enumerate() {
            if r.base.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                r.len.store(len, Ordering::Relaxed);
                r.lost.store(false, Ordering::Relaxed);
                r.base.store(base, Ordering::Release);
                return Guard(Some(i));
            }
        }
        Guard(None)
    }

    /// Whether a fault took the memory away.
    pub(crate) fn lost(&self) -> bool {
        self.0.is_some_and(|i| TABLE[i].lost.load(Ordering::Relaxed))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(i) = self.0 {
            TABLE[i].base.store(0, Ordering::Release);
        }
    }
}

fn install() -> bool {
    static ONCE: Once = Once::new();
    static DONE: AtomicBool = AtomicBool::new(false);
    ONCE.call_once(|| {
        let new = sys::SigAction {
            handler: on_fault as *const () as usize,
            mask: [0; 16],
            flags: sys::SA_SIGINFO | sys::SA_ONSTACK,
            restorer: 0,
        };
        // SAFETY: the old action is read before the handler can run; both structures are as the C library declares them.
        let done = unsafe {
            sys::sigaction(sys::SIGBUS, std::ptr::null(), OLD.0.get()) == 0 && sys::sigaction(sys::SIGBUS, &new, std::ptr::null_mut()) == 0
        };
        DONE.store(done, Ordering::Relaxed);
    });
    DONE.load(Ordering::Relaxed)
}

/// Where the fault was, and of which kind: `si_addr` and `si_code` of `siginfo_t`.
const SI_ADDR: usize = 16;
const SI_CODE: usize = 8;
/// Behind the end of a file. What else there is, zeros do not cure, and the access would fault for ever.
const BUS_ADRERR: c_int = 2;

extern "C" fn on_fault(signal: c_int, info: *const u8, context: *mut c_void) {
    // SAFETY: the kernel passes a siginfo_t.
    let (at, code) = unsafe { (info.add(SI_ADDR).cast::<usize>().read(), info.add(SI_CODE).cast::<c_int>().read()) };
    for r in &TABLE {
        if code != BUS_ADRERR {
            break;
        }
        let base = r.base.load(Ordering::Acquire);
        let len = r.len.load(Ordering::Relaxed);
        if base <= 1 || at.wrapping_sub(base) >= len {
            continue;
        }
        r.lost.store(true, Ordering::Release); // before anybody can see a zero
        TROUBLE.fetch_add(1, Ordering::Release);
        const FLAGS: c_int = sys::MAP_FIXED | sys::MAP_PRIVATE | sys::MAP_ANONYMOUS | sys::MAP_NORESERVE;
        // SAFETY: the range is a mapping of ours that faults; what stands there is replaced in one step. mmap is a plain system call.
        let new = unsafe { sys::mmap(base as *mut c_void, len, sys::PROT_READ | sys::PROT_WRITE, FLAGS, -1, 0) };
        if new as usize == base {
            return;
        }
    }
    // SAFETY: not ours. OLD was written before this handler was installed, and holds what the process had for this signal.
    unsafe {
        let old = &*OLD.0.get();
        match old.handler {
            0 | 1 => {
                // The default again: the instruction faults once more, and the process ends as it would have without this handler.
                let default = sys::SigAction { handler: 0, mask: [0; 16], flags: 0, restorer: 0 };
                sys::sigaction(signal, &default, std::ptr::null_mut());
            }
            h if old.flags & sys::SA_SIGINFO != 0 => {
                std::mem::transmute::<usize, extern "C" fn(c_int, *const u8, *mut c_void)>(h)(signal, info, context)
            }
            h => std::mem::transmute::<usize, extern "C" fn(c_int)>(h)(signal),
        }
    }
}

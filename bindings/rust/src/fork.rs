//! Descriptors that a forked child must not keep.
//!
//! A lock on a description lives as long as any descriptor of it, so a child that is forked and not exec'ed would keep its dead parent alive.
//! The handler closes the child's copies; it never unlocks, since that would act on the parent's lock too. A raw `clone` goes round it.

use std::cell::UnsafeCell;
use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::Once;

use crate::error::{Error, Result};
use crate::sys;

/// Grows with every fork of this process and every fault in a mapping. A handle that has seen the present value is in order.
pub(crate) static TROUBLE: AtomicU32 = AtomicU32::new(0);

/// The descriptors of this process, under a lock that is held while it forks. A mutex of `std` could not be released by the child.
struct Registry {
    locked: AtomicBool,
    list: UnsafeCell<Vec<*const AtomicI32>>,
}

// SAFETY: the list is touched only by who has set `locked`; the pointers lead to boxes that leave the list before they are freed.
unsafe impl Sync for Registry {}

static REGISTRY: Registry = Registry { locked: AtomicBool::new(false), list: UnsafeCell::new(Vec::new()) };

impl Registry {
    fn lock(&self) {
        while self.locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Vec<*const AtomicI32>) -> T) -> T {
        self.lock();
        // SAFETY: locked.
        let r = f(unsafe { &mut *self.list.get() });
        self.unlock();
        r
    }
}

extern "C" fn before() {
    REGISTRY.lock();
}

extern "C" fn in_parent() {
    REGISTRY.unlock();
}

extern "C" fn in_child() {
    // SAFETY: `before` locked the registry in the thread that is the only one here. Nothing is allocated.
    for fd in unsafe { &*REGISTRY.list.get() } {
        // SAFETY: entries lead to living boxes; the descriptor is this process's copy, and nobody else closes it.
        unsafe {
            let fd = (**fd).swap(-1, Ordering::Relaxed);
            if fd >= 0 {
                sys::close(fd);
            }
        }
    }
    TROUBLE.fetch_add(1, Ordering::Release);
    REGISTRY.unlock();
}

/// A descriptor with locks, close-on-exec and closed in forked children. Dropping it gives its locks up.
#[derive(Debug)]
pub(crate) struct Descriptor(Box<AtomicI32>);

impl Descriptor {
    /// Opens a description that no fork can slip by.
    pub(crate) fn open(f: impl FnOnce() -> io::Result<File>) -> io::Result<Descriptor> {
        static ONCE: Once = Once::new();
        let mut refused = 0;
        // SAFETY: the handlers are functions that are never unloaded before the process ends.
        ONCE.call_once(|| refused = unsafe { sys::pthread_atfork(before, in_parent, in_child) });
        if refused != 0 {
            return Err(io::Error::from_raw_os_error(refused));
        }
        let slot = Box::new(AtomicI32::new(-1));
        REGISTRY.with(|list| {
            slot.store(f()?.into_raw_fd(), Ordering::Relaxed);
            list.push(&*slot);
            Ok(Descriptor(slot))
        })
    }

    /// One that stands for nothing.
    pub(crate) fn none() -> Descriptor {
        Descriptor(Box::new(AtomicI32::new(-1)))
    }

    /// The number; `Closed` in a forked child.
    pub(crate) fn fd(&self) -> Result<i32> {
        match self.0.load(Ordering::Relaxed) {
            -1 => Err(Error::Closed),
            fd => Ok(fd),
        }
    }

    /// Whether this process was forked from the one that opened it.
    pub(crate) fn inherited(&self) -> bool {
        self.0.load(Ordering::Relaxed) < 0
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        let fd = REGISTRY.with(|list| {
            list.retain(|p| !std::ptr::eq(*p, &*self.0));
            self.0.swap(-1, Ordering::Relaxed)
        });
        if fd < 0 {
            return;
        }
        // An explicit unlock acts on the description, whoever has copies of it: a child that is just being started has, until its exec.
        let all = sys::Flock { kind: sys::F_UNLCK, whence: 0, start: 0, len: 0, pid: 0 };
        // SAFETY: the descriptor is ours and open. Errors of unlocking what was never locked are of no interest.
        unsafe {
            sys::fcntl(fd, sys::F_OFD_SETLK, &all as *const sys::Flock);
            sys::flock(fd, sys::LOCK_UN);
            sys::close(fd);
        }
    }
}

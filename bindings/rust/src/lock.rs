//! Proof of life: write locks of open file descriptions on bytes of the segment's file, `docs/FORMAT.md` section 7.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::sync::Mutex;

use crate::error::{Error, Result};
use crate::fork::Descriptor;
use crate::sys;

fn byte(kind: i16, at: u64) -> sys::Flock {
    sys::Flock { kind, whence: 0, start: at as i64, len: 1, pid: 0 }
}

/// Takes or drops a lock on one byte; false when somebody else has it.
fn set(fd: i32, kind: i16, at: u64) -> Result<bool> {
    // SAFETY: the structure is new for each call and lives through it.
    let r = sys::retry(|| unsafe { sys::fcntl(fd, sys::F_OFD_SETLK, &byte(kind, at) as *const sys::Flock) });
    match r {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.raw_os_error(), Some(sys::EAGAIN | sys::EACCES)) => Ok(false),
        Err(e) => Err(Error::io("lock", "", e)),
    }
}

/// Opens the file behind a descriptor once more, as a description of its own.
pub(crate) fn reopen(fd: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{fd}"))
}

/// A description of its own that holds bytes until it is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock(Descriptor);

impl Lock {
    /// Makes one that holds nothing yet, on the file behind `file`.
    pub(crate) fn new(file: &Descriptor) -> Result<Lock> {
        let fd = file.fd()?;
        Descriptor::open(|| reopen(fd)).map(Lock).map_err(|e| Error::io("open", format!("/proc/self/fd/{fd}"), e))
    }

    /// Takes a byte; false when somebody has it.
    pub(crate) fn add(&self, at: u64) -> Result<bool> {
        set(self.0.fd()?, sys::F_WRLCK, at)
    }

    /// Gives a byte back.
    pub(crate) fn drop_byte(&self, at: u64) -> Result<bool> {
        set(self.0.fd()?, sys::F_UNLCK, at)
    }

    pub(crate) fn inherited(&self) -> bool {
        self.0.inherited()
    }
}

/// Whether somebody holds the write lock on one of `count` bytes, on another description. When the kernel cannot be asked, the answer is yes.
pub(crate) fn any_locked(fd: RawFd, at: u64, count: u64) -> bool {
    let mut lock = byte(sys::F_RDLCK, at);
    // SAFETY: the structure lives through the call, which writes into it.
    let r = sys::retry(|| unsafe {
        lock = sys::Flock { len: count as i64, ..byte(sys::F_RDLCK, at) };
        sys::fcntl(fd, sys::F_OFD_GETLK, &mut lock as *mut sys::Flock)
    });
    r.is_err() || lock.kind != sys::F_UNLCK
}

/// The segment's own description: it answers probes and holds read locks, counted, since all threads share it.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) file: Descriptor,
    holds: Mutex<HashMap<u64, usize>>,
}

impl Keeper {
    pub(crate) fn new(file: Descriptor) -> Keeper {
        Keeper { file, holds: Mutex::new(HashMap::new()) }
    }

    /// Whether somebody holds the write lock. When the kernel cannot be asked, the answer is yes.
    pub(crate) fn locked(&self, at: u64) -> bool {
        let Ok(fd) = self.file.fd() else { return true };
        any_locked(fd, at, 1)
    }

    /// V1: takes the read lock, which proves that the owner is dead and keeps the id unused. None: it lives.
    pub(crate) fn hold(&self, at: u64) -> Option<Hold<'_>> {
        let fd = self.file.fd().ok()?;
        let mut holds = self.holds.lock().unwrap_or_else(|e| e.into_inner());
        let count = holds.entry(at).or_insert(0);
        if *count == 0 && !matches!(set(fd, sys::F_RDLCK, at), Ok(true)) {
            return None;
        }
        *count += 1;
        Some(Hold { keeper: self, at })
    }
}

/// A read lock on a byte.
pub(crate) struct Hold<'a> {
    keeper: &'a Keeper,
    at: u64,
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        let mut holds = self.keeper.holds.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(count) = holds.get_mut(&self.at) {
            *count -= 1;
            if *count == 0 {
                if let Ok(fd) = self.keeper.file.fd() {
                    let _ = set(fd, sys::F_UNLCK, self.at); // V7; it fails only in a process that has no lock to give back
                }
            }
        }
    }
}

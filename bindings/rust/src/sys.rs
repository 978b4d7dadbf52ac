//! The system calls that the standard library has no form for. `std` links the C library; nothing else is needed.

use std::ffi::CString;
use std::io;
use std::os::raw::{c_char, c_int, c_long, c_short, c_uint, c_void};

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("millrace needs Linux on x86_64 or aarch64");

#[repr(C)]
pub(crate) struct Flock {
    pub kind: c_short,
    pub whence: c_short,
    pub start: i64,
    pub len: i64,
    pub pid: c_int,
}

#[repr(C)]
pub(crate) struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

/// `struct shmid_ds` of both architectures.
#[repr(C)]
#[derive(Default)]
pub(crate) struct ShmDesc {
    pub key: c_int,
    pub uid: c_uint,
    pub gid: c_uint,
    pub cuid: c_uint,
    pub cgid: c_uint,
    pub mode: c_uint,
    pub seq: u64,
    pub reserved: [u64; 2],
    pub size: u64,
    pub atime: i64,
    pub dtime: i64,
    pub ctime: i64,
    pub cpid: c_int,
    pub lpid: c_int,
    pub attached: u64,
    pub unused: [u64; 2],
}

/// `struct statfs`, of which only the first fields are read.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Statfs {
    pub kind: i64,
    pub block: i64,
    pub blocks: u64,
    pub free: u64,
    pub available: u64,
    pub rest: [u64; 16],
}

/// `struct sigaction` as the C libraries of Linux declare it.
#[repr(C)]
pub(crate) struct SigAction {
    pub handler: usize,
    pub mask: [u64; 16],
    pub flags: c_int,
    pub restorer: usize,
}

extern "C" {
    pub(crate) fn syscall(number: c_long, ...) -> c_long;
    pub(crate) fn fcntl(fd: c_int, cmd: c_int, ...) -> c_int;
    pub(crate) fn flock(fd: c_int, how: c_int) -> c_int;
    pub(crate) fn close(fd: c_int) -> c_int;
    pub(crate) fn linkat(from_dir: c_int, from: *const c_char, to_dir: c_int, to: *const c_char, flags: c_int) -> c_int;
    pub(crate) fn fallocate(fd: c_int, mode: c_int, at: i64, len: i64) -> c_int;
    pub(crate) fn mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    pub(crate) fn munmap(at: *mut c_void, len: usize) -> c_int;
    pub(crate) fn madvise(at: *mut c_void, len: usize, advice: c_int) -> c_int;
    pub(crate) fn statfs(path: *const c_char, to: *mut Statfs) -> c_int;
    pub(crate) fn memfd_create(name: *const c_char, flags: c_uint) -> c_int;
    pub(crate) fn shmget(key: c_int, size: usize, flags: c_int) -> c_int;
    pub(crate) fn shmat(id: c_int, at: *const c_void, flags: c_int) -> *mut c_void;
    pub(crate) fn shmdt(at: *const c_void) -> c_int;
    pub(crate) fn shmctl(id: c_int, cmd: c_int, to: *mut ShmDesc) -> c_int;
    pub(crate) fn sigaction(signal: c_int, new: *const SigAction, old: *mut SigAction) -> c_int;
    pub(crate) fn pthread_atfork(prepare: extern "C" fn(), parent: extern "C" fn(), child: extern "C" fn()) -> c_int;
}

pub(crate) const AT_FDCWD: c_int = -100;
pub(crate) const AT_SYMLINK_FOLLOW: c_int = 0x400;

#[cfg(target_arch = "x86_64")]
mod arch {
    pub(crate) const O_DIRECTORY: i32 = 0o200_000;
    pub(crate) const O_NOFOLLOW: i32 = 0o400_000;
    pub(crate) const SYS_FUTEX: i64 = 202;
    pub(crate) const SYS_MEMBARRIER: i64 = 324;
    pub(crate) const SYS_GETRANDOM: i64 = 318;
    pub(crate) const SYS_RENAMEAT2: i64 = 316;
}
#[cfg(target_arch = "aarch64")]
mod arch {
    pub(crate) const O_DIRECTORY: i32 = 0o40_000;
    pub(crate) const O_NOFOLLOW: i32 = 0o100_000;
    pub(crate) const SYS_FUTEX: i64 = 98;
    pub(crate) const SYS_MEMBARRIER: i64 = 283;
    pub(crate) const SYS_GETRANDOM: i64 = 278;
    pub(crate) const SYS_RENAMEAT2: i64 = 276;
}
pub(crate) use arch::*;

pub(crate) const O_NONBLOCK: i32 = 0o4_000;
pub(crate) const O_TMPFILE: i32 = 0o20_000_000 | O_DIRECTORY;

pub(crate) const F_RDLCK: c_short = 0;
pub(crate) const F_WRLCK: c_short = 1;
pub(crate) const F_UNLCK: c_short = 2;
pub(crate) const F_OFD_GETLK: c_int = 36;
pub(crate) const F_OFD_SETLK: c_int = 37;
pub(crate) const F_ADD_SEALS: c_int = 1033;
pub(crate) const F_GET_SEALS: c_int = 1034;
pub(crate) const F_SEAL_SEAL: c_int = 1;
pub(crate) const F_SEAL_SHRINK: c_int = 2;
pub(crate) const F_SEAL_GROW: c_int = 4;
pub(crate) const MFD_CLOEXEC: c_uint = 1;
pub(crate) const MFD_ALLOW_SEALING: c_uint = 2;

pub(crate) const LOCK_SH: c_int = 1;
pub(crate) const LOCK_EX: c_int = 2;
pub(crate) const LOCK_NB: c_int = 4;
pub(crate) const LOCK_UN: c_int = 8;

pub(crate) const PROT_READ: c_int = 1;
pub(crate) const PROT_WRITE: c_int = 2;
pub(crate) const MAP_SHARED: c_int = 1;
pub(crate) const MAP_PRIVATE: c_int = 2;
pub(crate) const MAP_FIXED: c_int = 0x10;
pub(crate) const MAP_ANONYMOUS: c_int = 0x20;
pub(crate) const MAP_NORESERVE: c_int = 0x4000;
pub(crate) const MADV_POPULATE_WRITE: c_int = 23;

pub(crate) const IPC_CREAT: c_int = 0o1000;
pub(crate) const IPC_EXCL: c_int = 0o2000;
pub(crate) const IPC_RMID: c_int = 0;
pub(crate) const IPC_SET: c_int = 1;
pub(crate) const IPC_STAT: c_int = 2;
pub(crate) const SHM_RDONLY: c_int = 0o10000;

pub(crate) const SIGBUS: c_int = 7;
pub(crate) const SA_SIGINFO: c_int = 4;
pub(crate) const SA_ONSTACK: c_int = 0x0800_0000;

pub(crate) const ENOENT: i32 = 2;
pub(crate) const EINTR: i32 = 4;
pub(crate) const EAGAIN: i32 = 11;
pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EACCES: i32 = 13;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const EISDIR: i32 = 21;
pub(crate) const EFAULT: i32 = 14;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const ENXIO: i32 = 6;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const ENOSYS: i32 = 38;
pub(crate) const EIDRM: i32 = 43;
pub(crate) const EOPNOTSUPP: i32 = 95;
pub(crate) const EDQUOT: i32 = 122;

const FUTEX_WAKE: c_int = 1;
const FUTEX_WAIT_BITSET: c_int = 9;
const MEMBARRIER_QUERY: c_int = 0;
pub(crate) const MEMBARRIER_GLOBAL_EXPEDITED: c_int = 1 << 1;
pub(crate) const MEMBARRIER_REGISTER_GLOBAL_EXPEDITED: c_int = 1 << 2;

/// The error number of the last failed call of this thread.
pub(crate) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// Makes a C string of a path; one with a NUL inside is refused.
pub(crate) fn c_path(p: &std::path::Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(p.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(EINVAL))
}

/// Calls `f`, which answers -1 and `EINTR` when a signal came, until it did not.
pub(crate) fn retry(mut f: impl FnMut() -> c_int) -> io::Result<c_int> {
    loop {
        let r = f();
        if r != -1 {
            return Ok(r);
        }
        let e = io::Error::last_os_error();
        if e.raw_os_error() != Some(EINTR) {
            return Err(e);
        }
    }
}

/// Sleeps while the word at `at` is `key`, at most `nanos`. Comes back early for any reason.
///
/// # Safety
/// `at` is mapped, and stays so during the call.
pub(crate) unsafe fn futex_wait(at: *const u32, key: u32, nanos: u64) {
    let mut now = Timespec { sec: 0, nsec: 0 };
    extern "C" {
        fn clock_gettime(clock: c_int, to: *mut Timespec) -> c_int;
    }
    const CLOCK_MONOTONIC: c_int = 1;
    clock_gettime(CLOCK_MONOTONIC, &mut now);
    let end = now.sec as u64 * 1_000_000_000 + now.nsec as u64 + nanos;
    let end = Timespec { sec: (end / 1_000_000_000) as i64, nsec: (end % 1_000_000_000) as i64 };
    syscall(SYS_FUTEX, at, FUTEX_WAIT_BITSET, key, &end as *const Timespec, std::ptr::null::<u32>(), u32::MAX);
}

/// Wakes up to `n` sleepers and returns how many there were.
///
/// # Safety
/// `at` is mapped.
pub(crate) unsafe fn futex_wake(at: *const u32, n: c_int) -> i64 {
    syscall(SYS_FUTEX, at, FUTEX_WAKE, n, std::ptr::null::<u32>(), std::ptr::null::<u32>(), 0)
}

/// What membarrier(2) can do here; 0 when the kernel lacks or refuses it.
pub(crate) fn membarrier_commands() -> c_int {
    // SAFETY: the query touches no memory.
    (unsafe { syscall(SYS_MEMBARRIER, MEMBARRIER_QUERY, 0, 0) }).max(0) as c_int
}

/// One membarrier(2) command; says whether it worked.
pub(crate) fn membarrier(cmd: c_int) -> bool {
    // SAFETY: the commands touch no memory.
    unsafe { syscall(SYS_MEMBARRIER, cmd, 0, 0) == 0 }
}

/// Fills `b` with random bytes.
pub(crate) fn random(b: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < b.len() {
        // SAFETY: the kernel writes at most the length given into `b`.
        let n = unsafe { syscall(SYS_GETRANDOM, b[done..].as_mut_ptr(), b.len() - done, 0) };
        match n {
            1.. => done += n as usize,
            _ if errno() == EINTR => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

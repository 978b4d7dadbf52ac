//! Segments: names, mappings, opening. `docs/FORMAT.md` section 4.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use crate::error::{Error, FormatClass, Result};
use crate::fork::Descriptor;
use crate::guard::Guard;
use crate::header::{Header, BACKING_MEMFD, BACKING_SYSV};
use crate::layout::{HEADER_READY, HEADER_SIZE};
use crate::lock::{reopen, Keeper};
use crate::{order, sys, sysv};

/// How often an operation starts again because the name was given to another file meanwhile.
pub(crate) const TRIES: usize = 1000;
/// How long an opener waits for somebody who is removing the ring at that moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns `$MILLRACE_DIR`, or `/dev/shm`.
pub fn default_dir() -> PathBuf {
    match std::env::var_os("MILLRACE_DIR") {
        Some(d) if !d.is_empty() => d.into(),
        _ => "/dev/shm".into(),
    }
}

/// Checks a name and returns its directory and path.
pub(crate) fn locate(name: &str, dir: Option<&Path>) -> Result<(PathBuf, PathBuf)> {
    let odd = |c: u8| c == b'/' || c == b'.' || c < b' ' || c == 0x7f;
    if name.is_empty() || name.len() > 200 || name.bytes().any(odd) {
        return Err(Error::Option("name", "1 to 200 bytes, no '/', no '.' and no control characters"));
    }
    let dir = dir.map_or_else(default_dir, Path::to_path_buf);
    let path = dir.join(name);
    Ok((dir, path))
}

/// The memory of a segment.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: *mut u8,
    len: usize,
    guard: Guard,
    sysv: bool,
}

// SAFETY: a range of addresses; what is done with it is the business of who gets the pointer.
unsafe impl Send for Mapping {}
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of a file. The description of `file` is kept alive by the mapping, so it must hold no lock.
    pub(crate) fn file(file: &File, len: u64, read_only: bool) -> io::Result<Mapping> {
        let prot = if read_only { sys::PROT_READ } else { sys::PROT_READ | sys::PROT_WRITE };
        // SAFETY: the kernel chooses the addresses.
        let base = unsafe { sys::mmap(std::ptr::null_mut(), len as usize, prot, sys::MAP_SHARED, file.as_raw_fd(), 0) };
        if base as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: plain system call on a descriptor that is open.
        let seals = unsafe { sys::fcntl(file.as_raw_fd(), sys::F_GET_SEALS) };
        let sealed = seals != -1 && seals & sys::F_SEAL_SHRINK != 0;
        let guard = if sealed { Guard::none() } else { Guard::new(base as usize, len as usize) };
        Ok(Mapping { base: base.cast(), len: len as usize, guard, sysv: false })
    }

    /// Takes over an attached System V segment.
    pub(crate) fn sysv(base: *mut u8, len: usize) -> Mapping {
        Mapping { base, len, guard: Guard::none(), sysv: true }
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether a fault took the memory away.
    pub(crate) fn lost(&self) -> bool {
        self.guard.lost()
    }

    /// The word that makes the segment valid.
    pub(crate) fn ready(&self) -> &AtomicU32 {
        // SAFETY: every mapping has at least a header, and the offset is a multiple of 4.
        unsafe { &*self.base.add(HEADER_READY).cast() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.guard = Guard::none(); // before the addresses can belong to somebody else
                                    // SAFETY: the range is ours, and who holds a mapping holds every pointer into it.
        unsafe {
            if self.sysv {
                sys::shmdt(self.base.cast());
            } else {
                sys::munmap(self.base.cast(), self.len);
            }
        }
    }
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: Header,
    pub(crate) map: Mapping,
    pub(crate) keeper: Keeper, // holds LOCK_SH (observers: nothing); its description is never mapped
    pub(crate) read_only: bool,
    pub(crate) name: String,
}

impl Segment {
    /// Whether the memory is still there: what was read and written until now counts.
    pub(crate) fn sound(&self) -> Result<()> {
        if self.map.lost() {
            return Err(Error::SegmentLost);
        }
        Ok(())
    }
}

/// flock(2), retried when a signal came; false when somebody else has it.
pub(crate) fn flock(fd: i32, how: i32) -> io::Result<bool> {
    // SAFETY: plain system call.
    match sys::retry(|| unsafe { sys::flock(fd, how) }) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(sys::EAGAIN) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether the name, not followed if it is a link, is this file.
pub(crate) fn leads_to(path: &Path, file: &Metadata) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok(named.dev() == file.dev() && named.ino() == file.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Opens a file without following a link.
pub(crate) fn open_plain(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(write).custom_flags(sys::O_NOFOLLOW | sys::O_NONBLOCK).open(path)
}

/// Turns what opening something else answers into `NotSegment`.
pub(crate) fn open_error(path: &Path, e: io::Error) -> Error {
    match e.raw_os_error() {
        Some(sys::EISDIR | sys::ENXIO) => Error::format(FormatClass::NotSegment, "file type", 0, None),
        _ => Error::io("open", path, e),
    }
}

/// Reads as much of the header as the file has, and its size.
pub(crate) fn read_header(file: &File) -> io::Result<(Vec<u8>, u64)> {
    let mut b = vec![0; HEADER_SIZE];
    let mut n = 0;
    while n < b.len() {
        match file.read_at(&mut b[n..], n as u64) {
            Ok(0) => break,
            Ok(k) => n += k,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    b.truncate(n);
    Ok((b, file.metadata()?.len()))
}

/// A borrowed view of a descriptor as a file, for the calls of `std`.
pub(crate) fn with_file<T>(fd: i32, f: impl FnOnce(&File) -> T) -> T {
    use std::os::fd::FromRawFd;
    // SAFETY: the file is not dropped, so the descriptor stays its owner's, who outlives the call.
    f(&std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(fd) }))
}

impl Segment {
    /// Opens by name.
    pub(crate) fn open(name: &str, dir: Option<&Path>, read_only: bool) -> Result<Segment> {
        let (_, path) = locate(name, dir)?;
        for _ in 0..TRIES {
            let file = Descriptor::open(|| open_plain(&path, !read_only)).map_err(|e| open_error(&path, e))?;
            let fd = file.fd()?;
            let meta = with_file(fd, File::metadata).map_err(|e| Error::io("stat", &path, e))?;
            if !meta.is_file() {
                return Err(Error::format(FormatClass::NotSegment, "file type", meta.mode().into(), None));
            }
            if !read_only {
                share(fd, &path)?;
            }
            if leads_to(&path, &meta).map_err(|e| Error::io("stat", &path, e))? {
                let s = Segment::attach(file, name, &path, read_only)?;
                if s.header.backing == BACKING_MEMFD {
                    return Err(Error::Unsupported("a memfd has no name; this file is a copy of one"));
                }
                return Ok(s);
            }
        }
        Err(Error::InUse)
    }

    /// Opens what is behind a descriptor, which stays the caller's.
    pub(crate) fn from_file(own: &File, read_only: bool) -> Result<Segment> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", own.as_raw_fd()));
        let again = || OpenOptions::new().read(true).write(!read_only).custom_flags(sys::O_NONBLOCK).open(&path);
        let file = Descriptor::open(again).map_err(|e| open_error(&path, e))?;
        let meta = own.metadata().map_err(|e| Error::io("stat", &path, e))?;
        if !meta.is_file() {
            return Err(Error::format(FormatClass::NotSegment, "file type", meta.mode().into(), None));
        }
        if !read_only {
            share(file.fd()?, &path)?;
        }
        Segment::attach(file, "", &path, read_only)
    }

    /// Checks the header of an open file and maps the segment.
    fn attach(file: Descriptor, name: &str, path: &Path, read_only: bool) -> Result<Segment> {
        let fd = file.fd()?;
        let io = |op| move |e| Error::io(op, path, e);
        let (head, size) = with_file(fd, read_header).map_err(io("read"))?;
        let header = Header::decode(&head, size)?;
        let map = if header.backing == BACKING_SYSV {
            sysv::attach(&header, read_only)?
        } else {
            let again = if read_only { File::open(format!("/proc/self/fd/{fd}")) } else { reopen(fd) };
            Mapping::file(&again.map_err(io("open"))?, header.segment_size, read_only).map_err(io("map"))?
        };
        let ready = order::load(map.ready()); // F2
        if ready != 1 {
            return Err(Error::format(FormatClass::Corrupt, "ready", ready.into(), Some(1)));
        }
        Ok(Segment { header, map, keeper: Keeper::new(file), read_only, name: name.to_string() })
    }
}

/// Takes LOCK_SH. Only removers and creators hold the file exclusively, both for a moment.
fn share(fd: i32, path: &Path) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !flock(fd, sys::LOCK_SH | sys::LOCK_NB).map_err(|e| Error::io("flock", path, e))? {
        if Instant::now() > end {
            return Err(Error::InUse);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

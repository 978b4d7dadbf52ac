//! Making a segment: complete before anybody can see it. `docs/FORMAT.md` section 4.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::initialise;
use crate::error::{Error, IoError, Result};
use crate::fork::Descriptor;
use crate::header::{Header, BACKING_MEMFD, BACKING_SYSV};
use crate::lock::{reopen, Keeper};
use crate::memory;
use crate::segment::{flock, leads_to, locate, with_file, Mapping, Segment, TRIES};
use crate::{order, sys, sysv};

/// What one call of fallocate asks for: a signal undoes a whole call on tmpfs.
const CHUNK: u64 = 64 << 20;
const OWNER: u32 = 0o600;

/// Now, in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// A file in the making: the description that is mapped, the one that holds the lock, and its private name, if it has one.
pub(crate) struct Making {
    pub(crate) file: File,
    lock: Descriptor,
    private: Option<PathBuf>,
}

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(p) = &self.private {
            let _ = std::fs::remove_file(p); // a sweep finds what is left
        }
    }
}

/// Makes a segment with the options in `h`.
pub(crate) fn create(name: &str, dir: Option<&Path>, mut h: Header) -> Result<Segment> {
    let (dir, path) = locate(name, dir)?;
    h.geometry()?;
    sys::random(&mut h.id).map_err(|e| Error::io("getrandom", "", e))?;
    h.created = now();
    h.creator_pid = std::process::id();
    if h.backing == BACKING_MEMFD {
        return create_memfd(name, h);
    }
    absent(&path)?; // racers that lose are told before they reserve memory; what decides is the link at the end
    for _ in 0..TRIES {
        let make = if h.backing == BACKING_SYSV { sysv::create } else { create_file };
        match (make(name, &dir, &path, h), absent(&path)) {
            (Err(Error::InUse), _) => {} // a sweep took the private name in the moment in which it was not locked
            (Err(Error::Io(_)), Err(exists)) => return Err(exists), // no memory only because the winner has it
            (made, _) => return made,
        }
    }
    Err(Error::InUse)
}

fn create_file(name: &str, dir: &Path, path: &Path, h: Header) -> Result<Segment> {
    let made = open_unnamed(name, dir)?;
    reserve(&made.file, dir, &h)?;
    let map = fill(&made.file, path, dir, &h)?;
    set_mode(&made.file, h.mode, path)?;
    finish(made, name, path, h, map)
}

fn create_memfd(name: &str, h: Header) -> Result<Segment> {
    let io = |op| move |e| Error::io(op, name, e);
    let c_name = sys::c_path(Path::new(name)).map_err(io("memfd_create"))?;
    // SAFETY: the name lives through the call; the result is a new descriptor that nobody else owns.
    let file = unsafe {
        use std::os::fd::FromRawFd;
        let fd = sys::retry(|| sys::memfd_create(c_name.as_ptr(), sys::MFD_CLOEXEC | sys::MFD_ALLOW_SEALING));
        File::from_raw_fd(fd.map_err(io("memfd_create"))?)
    };
    let lock = Descriptor::open(|| reopen(file.as_raw_fd())).map_err(io("open"))?;
    reserve(&file, Path::new(""), &h)?;
    let map = fill(&file, Path::new(name), Path::new(""), &h)?;
    set_mode(&file, h.mode, Path::new(name))?;
    let seals = sys::F_SEAL_SHRINK | sys::F_SEAL_GROW | sys::F_SEAL_SEAL;
    // SAFETY: plain system call.
    sys::retry(|| unsafe { sys::fcntl(file.as_raw_fd(), sys::F_ADD_SEALS, seals) }).map_err(io("seal"))?;
    flock(lock.fd()?, sys::LOCK_SH).map_err(io("flock"))?;
    Ok(Segment { header: h, map, keeper: Keeper::new(lock), read_only: false, name: name.to_string() })
}

/// `Exists` when the name is taken, by whatever.
fn absent(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Err(Error::Exists),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("stat", path, e)),
    }
}

pub(crate) fn set_mode(file: &File, mode: u32, path: &Path) -> Result<()> {
    file.set_permissions(Permissions::from_mode(mode)).map_err(|e| Error::io("chmod", path, e))
}

/// Opens a new file that nobody else can find: without a name, or under a private one where that is not possible.
fn open_unnamed(name: &str, dir: &Path) -> Result<Making> {
    let file = match OpenOptions::new().read(true).write(true).custom_flags(sys::O_TMPFILE).mode(OWNER).open(dir) {
        Ok(f) => f,
        Err(e) if matches!(e.raw_os_error(), Some(sys::EOPNOTSUPP | sys::EISDIR | sys::EINVAL | sys::ENOENT)) => {
            return open_private(name, dir);
        }
        Err(e) => return Err(Error::io("open", dir, e)),
    };
    set_mode(&file, OWNER, dir)?; // the umask may have taken the owner's bits, and the file is opened once more
    match Descriptor::open(|| reopen(file.as_raw_fd())) {
        Ok(lock) => Ok(Making { file, lock, private: None }),
        Err(_) => open_private(name, dir), // without /proc an unnamed file could not get a name either
    }
}

/// A new private name: `.NAME.<16 hex digits>.tmp`.
pub(crate) fn private_name(name: &str, dir: &Path) -> Result<PathBuf> {
    let mut r = [0; 8];
    sys::random(&mut r).map_err(|e| Error::io("getrandom", "", e))?;
    Ok(dir.join(format!(".{name}.{:016x}.tmp", u64::from_le_bytes(r))))
}

/// Opens a new file under a private name, and holds LOCK_EX on it, so that a sweep can tell whether its creator lives.
pub(crate) fn open_private(name: &str, dir: &Path) -> Result<Making> {
    let path = private_name(name, dir)?;
    let io = |op| move |e: io::Error| Error::io(op, dir, e);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(OWNER)
        .custom_flags(sys::O_NOFOLLOW)
        .open(&path)
        .map_err(io("create"))?;
    set_mode(&file, OWNER, &path)?;
    let lock = Descriptor::open(|| reopen(file.as_raw_fd())).map_err(io("open"))?;
    let made = Making { file, lock, private: Some(path) };
    made.lock_private(sys::LOCK_EX)?;
    Ok(made)
}

impl Making {
    /// Takes or converts the lock on a private file. While there is none, also in the middle of a conversion, a sweep may take the file
    /// for a dead creator's: the name tells.
    fn lock_private(&self, how: i32) -> Result<()> {
        let Some(path) = &self.private else { return Ok(()) };
        let fd = self.lock.fd()?;
        let held = flock(fd, how).and_then(|_| leads_to(path, &with_file(fd, File::metadata)?));
        match held {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::InUse),
            Err(e) => Err(Error::io("flock", path, e)),
        }
    }
}

/// Gives the file its size and all its memory, before the first byte is used.
fn reserve(file: &File, dir: &Path, h: &Header) -> Result<()> {
    memory::enough(h.segment_size, dir)?;
    let mut at = 0;
    while at < h.segment_size {
        let n = CHUNK.min(h.segment_size - at);
        // SAFETY: plain system call.
        let r = sys::retry(|| unsafe { sys::fallocate(file.as_raw_fd(), 0, at as i64, n as i64) });
        if let Err(e) = r {
            if !matches!(e.raw_os_error(), Some(sys::EOPNOTSUPP | sys::ENOSYS)) {
                return Err(no_space("reserve", dir, h.segment_size, e));
            }
            write_zeros(file, at, n).map_err(|e| no_space("write", dir, h.segment_size, e))?;
        }
        at += n;
    }
    Ok(())
}

/// Reserves on file systems without fallocate.
fn write_zeros(file: &File, at: u64, n: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let zeros = vec![0; 1 << 20];
    let mut done = 0;
    while done < n {
        let k = (n - done).min(zeros.len() as u64);
        file.write_all_at(&zeros[..k as usize], at + done)?;
        done += k;
    }
    Ok(())
}

/// Adds to an error what is free, and the remedy.
pub(crate) fn no_space(op: &'static str, dir: &Path, need: u64, source: io::Error) -> Error {
    let hint = match source.raw_os_error() {
        Some(sys::ENOSPC | sys::EDQUOT) => memory::room(dir).map_or_else(
            || format!("{need} bytes are needed; choose smaller slots"),
            |(free, all)| {
                format!("{need} bytes are needed, {free} of {all} are free; enlarge the file system, remove what is not needed, or choose smaller slots")
            },
        ),
        Some(sys::ENOMEM) => format!("{need} bytes are needed, and the machine or its memory cgroup has no memory left"),
        _ => String::new(),
    };
    Error::Io(Box::new(IoError { op, path: dir.into(), hint, source }))
}

/// Maps the file and writes everything into it, `ready` last.
fn fill(file: &File, path: &Path, dir: &Path, h: &Header) -> Result<Mapping> {
    let map = Mapping::file(file, h.segment_size, false).map_err(|e| Error::io("map", path, e))?;
    populate(&map, dir, h.segment_size)?;
    fill_memory(&map, h);
    Ok(map)
}

/// Makes all pages of a fresh mapping exist and be clear, which the first lap would wait for otherwise.
pub(crate) fn populate(map: &Mapping, dir: &Path, size: u64) -> Result<()> {
    let mut at = 0;
    while at < map.len() {
        let n = map.len().min(at + CHUNK as usize) - at;
        // SAFETY: within the mapping.
        if unsafe { sys::madvise(map.base().add(at).cast(), n, sys::MADV_POPULATE_WRITE) } == 0 {
            at += n;
        } else if !matches!(sys::errno(), sys::EINTR | sys::EAGAIN) {
            break;
        }
    }
    if at == map.len() {
        return Ok(());
    }
    match sys::errno() {
        sys::EINVAL => {}                                                                                     // before Linux 5.14
        sys::EFAULT => return Err(no_space("reserve", dir, size, io::Error::from_raw_os_error(sys::ENOMEM))), // a failed allocation is called so here
        e => return Err(no_space("reserve", dir, size, io::Error::from_raw_os_error(e))),
    }
    for at in (0..map.len()).step_by(4096) {
        // SAFETY: within the mapping, which nobody else has and where everything is zero.
        unsafe { map.base().add(at).write_volatile(0) };
    }
    Ok(())
}

/// Writes all areas of a new segment, the header with its checksum, and last `ready`.
pub(crate) fn fill_memory(map: &Mapping, h: &Header) {
    initialise(map, h);
    let head = h.encode();
    // SAFETY: the mapping begins with a header, and nobody else has it.
    unsafe { std::ptr::copy_nonoverlapping(head.as_ptr(), map.base(), head.len()) };
    order::store(map.ready(), 1); // F1
}

/// Gives the complete file its name, under the shared lock of everybody who is attached.
pub(crate) fn finish(mut made: Making, name: &str, path: &Path, h: Header, map: Mapping) -> Result<Segment> {
    let io = |op| move |e| Error::io(op, path, e);
    let from = match &made.private {
        None => {
            flock(made.lock.fd()?, sys::LOCK_SH).map_err(io("flock"))?;
            PathBuf::from(format!("/proc/self/fd/{}", made.file.as_raw_fd()))
        }
        Some(p) => {
            made.lock_private(sys::LOCK_SH)?;
            p.clone()
        }
    };
    let follow = if made.private.is_none() { sys::AT_SYMLINK_FOLLOW } else { 0 };
    let (from, to) = (sys::c_path(&from).map_err(io("link"))?, sys::c_path(path).map_err(io("link"))?);
    // SAFETY: both strings live through the call.
    let r = sys::retry(|| unsafe { sys::linkat(sys::AT_FDCWD, from.as_ptr(), sys::AT_FDCWD, to.as_ptr(), follow) });
    r.map_err(io("link"))?;
    if let Some(p) = made.private.take() {
        let _ = std::fs::remove_file(p); // the ring is there and works; a sweep removes its second name
    }
    let lock = std::mem::replace(&mut made.lock, Descriptor::none());
    Ok(Segment { header: h, map, keeper: Keeper::new(lock), read_only: false, name: name.to_string() })
}

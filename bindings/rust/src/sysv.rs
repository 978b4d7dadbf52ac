//! System V segments. One is found through its anchor, a file with the same header: it holds the key and the id, and the locks are on it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::create::{fill_memory, finish, no_space, open_private, populate, set_mode};
use crate::error::{Error, FormatClass, Result};
use crate::header::{Header, BACKING_SYSV};
use crate::layout::{HEADER_ID, HEADER_SIZE};
use crate::segment::{Mapping, Segment};
use crate::{memory, sys};

/// How many random keys are tried that somebody else has already.
const KEY_TRIES: usize = 100;
const OWNER: u32 = 0o600;

/// A System V segment that goes again unless it is kept.
struct Fresh(Option<i32>);

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            // SAFETY: plain system call on a segment that this creation made.
            unsafe { sys::shmctl(id, sys::IPC_RMID, std::ptr::null_mut()) };
        }
    }
}

/// Makes anchor and segment. The key is in the anchor before the segment exists, so that a sweep finds the segment of a dead creator.
pub(crate) fn create(name: &str, dir: &Path, path: &Path, mut h: Header) -> Result<Segment> {
    let io = |op| move |e| Error::io(op, path, e);
    memory::enough(h.segment_size, dir)?;
    let made = open_private(name, dir)?;
    let mut fresh = Fresh(None);
    for _ in 0..KEY_TRIES {
        let mut key = [0; 4];
        sys::random(&mut key).map_err(io("getrandom"))?;
        h.sysv_key = u32::from_le_bytes(key);
        if h.sysv_key == 0 {
            continue;
        }
        made.file.write_all_at(&h.encode(), 0).map_err(io("write"))?;
        let flags = sys::IPC_CREAT | sys::IPC_EXCL | (h.mode | OWNER) as i32;
        // SAFETY: plain system call.
        let id = unsafe { sys::shmget(h.sysv_key as i32, h.segment_size as usize, flags) };
        if id != -1 {
            fresh.0 = Some(id);
            h.sysv_id = id as u32;
            break;
        }
        if sys::errno() != sys::EEXIST {
            return Err(no_space("shmget", dir, h.segment_size, io::Error::last_os_error()));
        }
    }
    let id = fresh.0.ok_or(Error::Unsupported("every System V key that was tried is taken"))?;
    let map = at(id, h.segment_size, false)?;
    // SAFETY: the mapping is as large as the header says and nobody else fills it. The id goes first: from there on a sweep is sure.
    unsafe {
        std::ptr::copy_nonoverlapping(h.id.as_ptr(), map.base().add(HEADER_ID), h.id.len());
    }
    populate(&map, dir, h.segment_size)?;
    fill_memory(&map, &h);
    if h.mode & OWNER != OWNER {
        let mut d = describe(id).map_err(io("shmctl"))?;
        d.mode = h.mode;
        // SAFETY: the structure is complete and lives through the call.
        if unsafe { sys::shmctl(id, sys::IPC_SET, &mut d) } == -1 {
            return Err(Error::io("shmctl", path, io::Error::last_os_error()));
        }
    }
    let mut anchor = h.encode();
    anchor[crate::layout::HEADER_READY] = 1;
    made.file.write_all_at(&anchor, 0).map_err(io("write"))?;
    set_mode(&made.file, h.mode, path)?;
    let s = finish(made, name, path, h, map)?;
    fresh.0 = None;
    Ok(s)
}

/// Attaches the segment with this id, of at least `size` bytes.
fn at(id: i32, size: u64, read_only: bool) -> Result<Mapping> {
    let have = describe(id).map_or(0, |d| d.size);
    let flags = if read_only { sys::SHM_RDONLY } else { 0 };
    // SAFETY: the kernel chooses the addresses.
    let base = unsafe { sys::shmat(id, std::ptr::null(), flags) };
    if base as isize == -1 {
        return match sys::errno() {
            sys::EINVAL | sys::EIDRM => Err(Error::format(FormatClass::Corrupt, "sysv_id", id as u64, None)),
            _ => Err(Error::io("shmat", "", io::Error::last_os_error())),
        };
    }
    let map = Mapping::sysv(base.cast(), have as usize);
    if have < size {
        return Err(Error::format(FormatClass::Corrupt, "sysv_id", have, Some(size)));
    }
    Ok(map)
}

/// A private copy of the header of an attached segment.
fn head(map: &Mapping) -> Vec<u8> {
    let mut b = vec![0; HEADER_SIZE.min(map.len())];
    // SAFETY: as much as the mapping has.
    unsafe { std::ptr::copy_nonoverlapping(map.base(), b.as_mut_ptr(), b.len()) };
    b
}

/// Attaches the segment that a checked anchor names, and makes sure that it is that one.
pub(crate) fn attach(h: &Header, read_only: bool) -> Result<Mapping> {
    let map = at(h.sysv_id as i32, h.segment_size, read_only)?;
    if Header::decode(&head(&map), map.len() as u64)? != *h {
        return Err(Error::format(FormatClass::Corrupt, "id", h.sysv_id.into(), None));
    }
    Ok(map)
}

fn describe(id: i32) -> io::Result<sys::ShmDesc> {
    let mut d = sys::ShmDesc::default();
    // SAFETY: the structure is that of the kernel.
    match unsafe { sys::shmctl(id, sys::IPC_STAT, &mut d) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(d),
    }
}

/// Removes the segment of a published anchor, if it exists and is that of the anchor. A planted anchor makes nobody remove a segment that
/// the anchor's owner did not make.
pub(crate) fn remove(h: &Header, anchor: &File) -> Result<()> {
    let io = |op| move |e| Error::io(op, "", e);
    if h.backing != BACKING_SYSV || h.sysv_key == 0 {
        return Ok(());
    }
    // SAFETY: plain system call.
    let id = unsafe { sys::shmget(h.sysv_key as i32, 0, 0) };
    if id == -1 {
        return match sys::errno() {
            sys::ENOENT => Ok(()),
            _ => Err(Error::io("shmget", "", io::Error::last_os_error())),
        };
    }
    let d = describe(id).map_err(io("shmctl"))?;
    let owner = anchor.metadata().map(|m: Metadata| m.uid()).map_err(io("stat"))?;
    if d.cuid != owner || d.size < HEADER_SIZE as u64 {
        return Ok(());
    }
    if head(&at(id, 0, true)?)[HEADER_ID..HEADER_ID + 16] != h.id {
        return Ok(());
    }
    // SAFETY: plain system call.
    match unsafe { sys::shmctl(id, sys::IPC_RMID, std::ptr::null_mut()) } {
        -1 => Err(Error::io("shmctl", "", io::Error::last_os_error())),
        _ => Ok(()),
    }
}

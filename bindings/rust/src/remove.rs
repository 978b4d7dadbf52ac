//! Removal, `docs/FORMAT.md` section 4.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::core::Core;
use crate::create::private_name;
use crate::error::{Error, FormatClass, Result};
use crate::header::{Header, BACKING_SYSV};
use crate::layout::{LOCK_PARTICIPANT, MAGIC, MAX_PARTICIPANTS};
use crate::lock::any_locked;
use crate::segment::{flock, leads_to, locate, open_error, open_plain, read_header, Mapping, TRIES};
use crate::{order, sys, sysv};

/// How to remove a ring.
#[derive(Debug, Clone, Default)]
pub struct RemoveOptions {
    dir: Option<PathBuf>,
    if_drained: bool,
    force: bool,
}

impl RemoveOptions {
    /// Removes an unused ring from the default directory, unread messages included.
    pub fn new() -> RemoveOptions {
        RemoveOptions::default()
    }

    /// The directory that the ring lies in; default `/dev/shm`, or `$MILLRACE_DIR`.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> RemoveOptions {
        self.dir = Some(dir.into());
        self
    }

    /// Refuse, with [`Error::InUse`], while unread messages are left.
    pub fn if_drained(mut self) -> RemoveOptions {
        self.if_drained = true;
        self
    }

    /// Remove it even while it is in use: everybody's calls return [`Error::SegmentLost`].
    pub fn force(mut self) -> RemoveOptions {
        self.force = true;
        self
    }

    /// Removes the ring.
    ///
    /// Blocks: never. Fails with [`Error::InUse`] while anybody is attached, this process included, and [`Error::NotFound`].
    pub fn remove(&self, name: &str) -> Result<()> {
        let (dir, path) = locate(name, self.dir.as_deref())?;
        for _ in 0..TRIES {
            let file = open_plain(&path, self.if_drained || self.force).map_err(|e| open_error(&path, e))?;
            if self.remove_open(&file, name, &dir, &path)? {
                return Ok(());
            }
        }
        Err(Error::InUse)
    }

    /// Removes the ring behind a description that nobody else has; false when the name leads to another file by now.
    fn remove_open(&self, file: &File, name: &str, dir: &Path, path: &Path) -> Result<bool> {
        let io = |op| move |e| Error::io(op, path, e);
        let meta = file.metadata().map_err(io("stat"))?;
        if !meta.is_file() {
            return Err(Error::format(FormatClass::NotSegment, "file type", meta.mode().into(), None));
        }
        let fd = file.as_raw_fd();
        let alone = flock(fd, sys::LOCK_EX | sys::LOCK_NB).map_err(io("flock"))?;
        if !alone {
            // A shared lock keeps ordinary removers away. Without it, two of them could meet at the name.
            if !self.force || !flock(fd, sys::LOCK_SH | sys::LOCK_NB).map_err(io("flock"))? {
                return Err(Error::InUse);
            }
        }
        // Participants that cannot flock have their byte locks.
        if alone && !self.force && any_locked(fd, LOCK_PARTICIPANT, MAX_PARTICIPANTS) {
            return Err(Error::InUse);
        }
        if !leads_to(path, &meta).map_err(io("stat"))? {
            return Ok(false);
        }
        let (head, size) = read_header(file).map_err(io("read"))?;
        let header = Header::decode(&head, size);
        match &header {
            Ok(h) => self.tell(file, h, alone, path)?,
            // What is no segment at all is left alone; a damaged one, or one of another version, is removed.
            Err(_) if head.starts_with(&MAGIC) && (self.force || !self.if_drained) => {}
            Err(_) => return header.map(|_| true),
        }
        match header {
            Ok(h) if h.backing == BACKING_SYSV => remove_sysv(&h, file, name, dir, path)?,
            _ => std::fs::remove_file(path).map_err(io("unlink"))?,
        }
        if meta.nlink() > 1 {
            drop_private_names(dir, name, &meta);
        }
        Ok(true)
    }

    /// Maps the ring to look for unread messages, or to tell everybody that it is gone.
    fn tell(&self, file: &File, h: &Header, alone: bool, path: &Path) -> Result<()> {
        if !self.if_drained && !self.force {
            return Ok(());
        }
        let map = if h.backing == BACKING_SYSV {
            match sysv::attach(h, false) {
                Err(Error::Format(_)) if self.force => return Ok(()), // nobody can be told through a segment that is gone
                m => m?,
            }
        } else {
            Mapping::file(file, h.segment_size, false).map_err(|e| Error::io("map", path, e))?
        };
        let c = Core::new(&map, h);
        if self.if_drained && alone {
            return if c.unread() { Err(Error::InUse) } else { Ok(()) };
        }
        order::store(&c.ctl().removed, 1); // X6
        c.not_empty().notify_all();
        c.not_full().notify_all();
        Ok(())
    }
}

/// The anchor first gets a private name: from then on the name is free, and a sweep finds what a dead remover left.
fn remove_sysv(h: &Header, file: &File, name: &str, dir: &Path, path: &Path) -> Result<()> {
    let private = private_name(name, dir)?;
    std::fs::rename(path, &private).map_err(|e| Error::io("rename", path, e))?;
    if let Err(e) = sysv::remove(h, file) {
        // Not allowed to, as a rule: the ring keeps its name, unless somebody has taken it.
        if let (Ok(from), Ok(to)) = (sys::c_path(&private), sys::c_path(path)) {
            const NO_REPLACE: i32 = 1;
            // SAFETY: both strings live through the call.
            unsafe { sys::syscall(sys::SYS_RENAMEAT2, sys::AT_FDCWD, from.as_ptr(), sys::AT_FDCWD, to.as_ptr(), NO_REPLACE) };
        }
        return Err(e);
    }
    match std::fs::remove_file(&private) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("unlink", private, e)),
        _ => Ok(()), // a sweep may have been faster
    }
}

/// Removes the private name of a ring whose creator died between giving it its name and that. A sweep finds what is not found here.
fn drop_private_names(dir: &Path, name: &str, file: &std::fs::Metadata) {
    let prefix = format!(".{name}.");
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let other = entry.file_name();
        let private = other.to_str().is_some_and(|n| n.starts_with(&prefix) && n.ends_with(".tmp"));
        if private && leads_to(&entry.path(), file).unwrap_or(false) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Removes an unused ring of the default directory, unread messages included. See [`RemoveOptions`].
pub fn remove(name: &str) -> Result<()> {
    RemoveOptions::new().remove(name)
}

//! Rings: options, creating, opening.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::consumer::{Consumer, ConsumerOptions};
use crate::core::Core;
use crate::create;
use crate::error::{Error, Result};
use crate::header::Header;
use crate::layout::HEADER_FLAG_TEMPORARY;
use crate::order;
use crate::producer::{Producer, ProducerOptions};
use crate::segment::{Segment, TRIES};
use crate::stats::Sight;

/// How many producers and consumers a ring takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One producer, one consumer at a time.
    Spsc = 1,
    /// Many of both.
    Mpmc = 2,
}

/// What happens to a message whose consumer died holding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConsumerDeath {
    /// Another consumer gets it, with its delivery count above 1.
    Redeliver = 1,
    /// It is counted as lost.
    Drop = 2,
}

/// Where the memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// A file in a directory of shared memory.
    Posix = 1,
    /// A System V segment behind a small anchor file.
    SysV = 2,
    /// A file without a name, handed on by descriptor.
    Memfd = 3,
}

/// Options of a new ring. Those that are not set have their default; [`open_or_create`](Options::open_or_create) takes any value for them.
#[derive(Debug, Clone, Default)]
pub struct Options {
    kind: Option<Kind>,
    slots: Option<u64>,
    slot_size: Option<u64>,
    on_consumer_death: Option<OnConsumerDeath>,
    max_deliveries: u32,
    participants: Option<u32>,
    backing: Option<Backing>,
    mode: Option<u32>,
    dir: Option<PathBuf>,
    temporary: bool,
}

macro_rules! setter {
    ($(#[$doc:meta])* $name:ident: $t:ty) => {
        $(#[$doc])*
        pub fn $name(mut self, v: $t) -> Options {
            self.$name = Some(v);
            self
        }
    };
}

impl Options {
    /// An MPMC ring of 1024 slots of 256 bytes.
    pub fn new() -> Options {
        Options::default()
    }

    setter!(
        /// SPSC or MPMC (default).
        kind: Kind
    );
    setter!(
        /// A power of two, 1 to 2^24; default 1024.
        slots: u64
    );
    setter!(
        /// Payload bytes in one slot, 1 to 2^30; default 256.
        slot_size: u64
    );
    setter!(
        /// Default [`OnConsumerDeath::Redeliver`].
        on_consumer_death: OnConsumerDeath
    );
    setter!(
        /// Producers and consumers at once, 1 to 4096; default 256.
        participants: u32
    );
    setter!(
        /// Default [`Backing::Posix`].
        backing: Backing
    );
    setter!(
        /// Permission bits, exact whatever the umask; default 0600.
        mode: u32
    );

    /// How often a message is delivered before it is counted as lost, 1 to 48; 0, the default: no limit.
    pub fn max_deliveries(mut self, n: u32) -> Options {
        self.max_deliveries = n;
        self
    }

    /// The directory; default `/dev/shm`, or `$MILLRACE_DIR`.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Options {
        self.dir = Some(dir.into());
        self
    }

    /// Marks a ring that the receiver which read it to the end should remove; nothing happens by itself.
    pub fn temporary(mut self) -> Options {
        self.temporary = true;
        self
    }

    fn header(&self) -> Result<Header> {
        let mode = self.mode.unwrap_or(0o600);
        if mode & !0o777 != 0 {
            return Err(Error::Option("mode", "permission bits only"));
        }
        let kind = self.kind.unwrap_or(Kind::Mpmc);
        let slot_size = self.slot_size.unwrap_or(256);
        Ok(Header {
            kind: kind as u32,
            policy: self.on_consumer_death.unwrap_or(OnConsumerDeath::Redeliver) as u32,
            slots: self.slots.unwrap_or(1024),
            slot_size,
            // With a cache line each, a small message and its state word share one line, and neighbours do not fight over it.
            entry_stride: match slot_size {
                ..=16 if kind == Kind::Spsc => 32,
                49..=112 if kind == Kind::Spsc => 128,
                _ => 64,
            },
            participants: self.participants.unwrap_or(256),
            max_deliveries: self.max_deliveries,
            backing: self.backing.unwrap_or(Backing::Posix) as u32,
            mode,
            flags: if self.temporary { HEADER_FLAG_TEMPORARY as u32 } else { 0 },
            ..Header::default()
        })
    }

    /// Makes a ring that did not exist. Any number of processes may race: one succeeds, the others get [`Error::Exists`], and nobody ever
    /// sees a half-made ring. Blocks: while the memory is reserved and cleared, about a millisecond a MiB.
    pub fn create(&self, name: &str) -> Result<Ring> {
        Ok(Ring::new(create::create(name, self.dir.as_deref(), self.header()?)?))
    }

    /// Opens a ring, or creates it when there is none, and says which. [`Error::Mismatch`] names the first option that was set and differs.
    pub fn open_or_create(&self, name: &str) -> Result<(Ring, bool)> {
        if self.backing == Some(Backing::Memfd) {
            return Err(Error::Unsupported("a memfd has no name: create it, and hand its file on"));
        }
        for _ in 0..TRIES {
            match open(name, self.dir.as_deref(), false) {
                Err(Error::NotFound) => {}
                Err(e) => return Err(e),
                Ok(ring) => {
                    self.matches(ring.header())?;
                    return Ok((ring, false));
                }
            }
            match self.create(name) {
                Err(Error::Exists) => {}
                r => return Ok((r?, true)),
            }
        }
        Err(Error::InUse) // created and removed by others all the time
    }

    fn matches(&self, h: &Header) -> Result<()> {
        let set = [
            ("kind", self.kind.map(|v| v as u64), u64::from(h.kind)),
            ("slots", self.slots, h.slots),
            ("slot_size", self.slot_size, h.slot_size),
            ("on_consumer_death", self.on_consumer_death.map(|v| v as u64), h.policy.into()),
            ("max_deliveries", Some(self.max_deliveries.into()).filter(|v| *v != 0), h.max_deliveries.into()),
            ("backing", self.backing.map(|v| v as u64), h.backing.into()),
            ("participants", self.participants.map(u64::from), h.participants.into()),
        ];
        match set.iter().find(|(_, want, have)| want.is_some_and(|w| w != *have)) {
            Some((name, _, _)) => Err(Error::Mismatch(name)),
            None => Ok(()),
        }
    }
}

/// How to open a ring.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    dir: Option<PathBuf>,
    read_only: bool,
}

impl OpenOptions {
    /// Opens from the default directory, as a participant.
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    /// The directory; default `/dev/shm`, or `$MILLRACE_DIR`.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> OpenOptions {
        self.dir = Some(dir.into());
        self
    }

    /// For observing only: maps read-only, registers nothing and needs read permission only.
    pub fn read_only(mut self) -> OpenOptions {
        self.read_only = true;
        self
    }

    /// Opens a ring by name.
    pub fn open(&self, name: &str) -> Result<Ring> {
        open(name, self.dir.as_deref(), self.read_only)
    }

    /// Opens a ring that was handed on by descriptor. The file stays the caller's.
    pub fn open_file(&self, file: &File) -> Result<Ring> {
        Ok(Ring::new(Segment::from_file(file, self.read_only)?))
    }
}

fn open(name: &str, dir: Option<&Path>, read_only: bool) -> Result<Ring> {
    Ok(Ring::new(Segment::open(name, dir, read_only)?))
}

/// What handles and rings of one opening share.
pub(crate) struct Shared {
    pub(crate) core: Core, // valid as long as seg
    pub(crate) seg: Segment,
    pub(crate) sights: Mutex<HashMap<u32, Sight>>,
}

/// An open ring: one mapping of its segment, which its producers and consumers keep alive. Any number of threads may use it.
pub struct Ring {
    pub(crate) shared: Arc<Shared>,
}

impl Ring {
    fn new(seg: Segment) -> Ring {
        let core = Core::new(&seg.map, &seg.header);
        Ring { shared: Arc::new(Shared { core, seg, sights: Mutex::default() }) }
    }

    /// Makes a ring of the default directory; see [`Options::create`].
    pub fn create(name: &str, options: &Options) -> Result<Ring> {
        options.create(name)
    }

    /// Opens a ring of the default directory. [`Error::NotFound`] when there is none, [`Error::Format`] when something else lies there.
    pub fn open(name: &str) -> Result<Ring> {
        OpenOptions::new().open(name)
    }

    /// Registers a producer. [`Error::RoleTaken`] when an SPSC ring has a live one.
    ///
    /// Blocks: for some system calls; longer when the remains of a dead participant have to be recovered first.
    pub fn producer(&self) -> Result<Producer> {
        self.producer_with(ProducerOptions::default())
    }

    /// Registers a producer with options.
    pub fn producer_with(&self, o: ProducerOptions) -> Result<Producer> {
        self.may_register()?;
        if order::load(&self.shared.core.ctl().typed) != 0 {
            return Err(Error::Mismatch("message type: the ring carries typed values"));
            // Y1
        }
        Producer::new(&self.shared, o)
    }

    /// Registers a consumer. [`Error::RoleTaken`] when an SPSC ring has a live one. Blocks as [`producer`](Ring::producer).
    pub fn consumer(&self) -> Result<Consumer> {
        self.consumer_with(ConsumerOptions::default())
    }

    /// Registers a consumer with options.
    pub fn consumer_with(&self, o: ConsumerOptions) -> Result<Consumer> {
        self.may_register()?;
        Consumer::new(&self.shared, o)
    }

    pub(crate) fn may_register(&self) -> Result<()> {
        let s = &self.shared.seg;
        if s.read_only {
            return Err(Error::ReadOnly);
        }
        s.keeper.file.fd()?;
        self.shared.gone()
    }

    /// The options in force, and everything else that the header says.
    pub fn header(&self) -> &Header {
        &self.shared.seg.header
    }

    /// The kind of the ring.
    pub fn kind(&self) -> Kind {
        if self.shared.core.spsc {
            Kind::Spsc
        } else {
            Kind::Mpmc
        }
    }

    /// The largest message in bytes: slot_size * max(1, slots / 2).
    pub fn max_message(&self) -> usize {
        self.shared.core.max_message as usize
    }

    /// The name that the ring was created or opened by; empty when it was opened by descriptor.
    pub fn name(&self) -> &str {
        &self.shared.seg.name
    }

    /// A new descriptor of the ring, to hand on to another process. Not for System V.
    pub fn file(&self) -> Result<File> {
        let s = &self.shared.seg;
        if s.header.backing == Backing::SysV as u32 {
            return Err(Error::Unsupported("a System V segment has no descriptor"));
        }
        let fd = s.keeper.file.fd()?;
        let path = PathBuf::from(format!("/proc/self/fd/{fd}"));
        let again = std::fs::OpenOptions::new().read(true).write(!s.read_only).open(&path);
        again.map_err(|e| Error::io("open", path, e))
    }
}

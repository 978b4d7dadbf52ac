//! What can go wrong.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::Role;

/// What a call answers instead of a result.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The positions that the message needs next were not all free at some moment of the call. From `try_` calls only.
    Full,
    /// Nothing was ready at some moment of the call. From `try_` calls only.
    Empty,
    /// The end of the stream: there have been producers, none is left, and nothing is unread or held by somebody else.
    End,
    /// The handle was stopped, or belongs to the parent of this forked process.
    Closed,
    /// The ring is full, it once had a consumer, and none is left to read it.
    NoConsumers,
    /// The time is up, and nothing was sent or received.
    TimedOut,
    /// The time is up behind a participant that lives and does not move.
    Stalled(Box<Stalled>),
    /// The message has `got` bytes, and at most `max` fit.
    TooLarge {
        /// Bytes of the message.
        got: usize,
        /// Bytes of the largest message.
        max: usize,
    },
    /// The buffer is too small; the message, of `need` bytes, stays in the ring.
    ShortBuffer {
        /// Bytes of the message.
        need: usize,
    },
    /// A lease or reservation was leaked and is still open, or a limit of 0 was given. Nothing was changed.
    Misuse,
    /// An SPSC ring has a live participant in this role.
    RoleTaken,
    /// Every entry of the participant table belongs to a live participant.
    TooManyParticipants,
    /// The name is taken.
    Exists,
    /// There is no ring of this name.
    NotFound,
    /// Somebody is attached, or unread messages are left.
    InUse,
    /// The ring is open for observing only.
    ReadOnly,
    /// The memory behind the ring is gone: truncated by somebody, or removed by force.
    SegmentLost,
    /// The ring exists with another value of this option, or carries typed values.
    Mismatch(&'static str),
    /// An option is out of range: its name and what is allowed.
    Option(&'static str, &'static str),
    /// What a name or an option asks for cannot be had; the text says what.
    Unsupported(&'static str),
    /// The bytes found are not what the format says.
    Format(Box<FormatError>),
    /// The operating system refused.
    Io(Box<IoError>),
}

/// Result of the calls of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The participant that a wait ended behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalled {
    /// What it is.
    pub role: Role,
    /// For people: pids differ between namespaces.
    pub pid: u32,
    /// What it holds.
    pub position: u64,
}

/// The class of a [`FormatError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatClass {
    /// Something else lies there.
    NotSegment,
    /// Made on a machine of the other byte order.
    ByteOrder,
    /// Of another version of the format.
    Version,
    /// Of another layout.
    Layout,
    /// Damaged.
    Corrupt,
}

/// Which field of a segment was found with which value.
#[derive(Debug, Clone)]
pub struct FormatError {
    /// What kind of difference it is.
    pub class: FormatClass,
    /// As `docs/FORMAT.md` names it.
    pub field: &'static str,
    /// For words of a slot: their position.
    pub position: Option<u64>,
    /// What was found.
    pub got: u64,
    /// What was expected, when it is one value.
    pub want: Option<u64>,
}

/// An error of the operating system, with what it was about.
#[derive(Debug)]
pub struct IoError {
    /// What was tried.
    pub op: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What is free, and what can be done; may be empty.
    pub hint: String,
    /// The error number.
    pub source: io::Error,
}

impl Error {
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(crate::sys::EEXIST) => Error::Exists,
            Some(crate::sys::ENOENT) => Error::NotFound,
            _ => Error::Io(Box::new(IoError { op, path: path.into(), hint: String::new(), source })),
        }
    }

    pub(crate) fn format(class: FormatClass, field: &'static str, got: u64, want: Option<u64>) -> Error {
        Error::Format(Box::new(FormatError { class, field, position: None, got, want }))
    }

    /// A word that fits no case of the format.
    #[cold]
    pub(crate) fn corrupt(field: &'static str, position: u64, got: u64) -> Error {
        Error::Format(Box::new(FormatError { class: FormatClass::Corrupt, field, position: Some(position), got, want: None }))
    }

    /// Whether the segment turned out to be damaged.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, Error::Format(f) if f.class == FormatClass::Corrupt)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Full => f.write_str("millrace: full"),
            Error::Empty => f.write_str("millrace: empty"),
            Error::End => f.write_str("millrace: end of stream"),
            Error::Closed => f.write_str("millrace: handle is closed"),
            Error::NoConsumers => f.write_str("millrace: full, and no consumer is left to read it"),
            Error::TimedOut => f.write_str("millrace: timed out"),
            Error::Stalled(s) => {
                write!(f, "millrace: timed out behind a stalled {} (pid {}, position {})", s.role, s.pid, s.position)
            }
            Error::TooLarge { got, max } => {
                write!(f, "millrace: message of {got} bytes: at most {max} fit; send less, or create the ring with larger slots")
            }
            Error::ShortBuffer { need } => write!(f, "millrace: the buffer is too small for a message of {need} bytes"),
            Error::Misuse => f.write_str("millrace: misuse: a leaked lease or reservation is open, or a limit is 0"),
            Error::RoleTaken => f.write_str("millrace: the role is taken (an SPSC ring has one producer and one consumer)"),
            Error::TooManyParticipants => {
                f.write_str("millrace: the participant table is full; close handles, or create the ring with more participants")
            }
            Error::Exists => f.write_str("millrace: the name is taken"),
            Error::NotFound => f.write_str("millrace: there is no such ring"),
            Error::InUse => f.write_str("millrace: in use"),
            Error::ReadOnly => f.write_str("millrace: open for observing only"),
            Error::SegmentLost => f.write_str("millrace: the segment was truncated or removed by force; open or create the ring again"),
            Error::Mismatch(what) => write!(f, "millrace: the ring exists with another {what}"),
            Error::Option(name, want) => write!(f, "millrace: option {name} is out of range, want {want}"),
            Error::Unsupported(what) => write!(f, "millrace: {what}"),
            Error::Format(e) => e.fmt(f),
            Error::Io(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io(e) => Some(&e.source),
            _ => None,
        }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            FormatClass::NotSegment => "not a segment",
            FormatClass::ByteOrder => "segment of the other byte order",
            FormatClass::Version => "segment of another version",
            FormatClass::Layout => "segment of another layout",
            FormatClass::Corrupt => "segment is corrupt",
        };
        write!(f, "millrace: {class}: {}", self.field)?;
        if let Some(p) = self.position {
            write!(f, " at position {p}")?;
        }
        write!(f, " is {:#x}", self.got)?;
        match self.want {
            Some(want) => write!(f, ", want {want:#x}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "millrace: {} {}: {}", self.op, self.path.display(), self.source)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// A batch that ended early: the first `sent` messages are committed.
#[derive(Debug)]
pub struct Partial {
    /// Messages committed, from the first.
    pub sent: usize,
    /// Why not the rest.
    pub error: Error,
}

impl Partial {
    /// Into memory that was lost nothing was sent.
    pub(crate) fn new(sent: usize, error: Error) -> Partial {
        Partial { sent: if matches!(error, Error::SegmentLost) { 0 } else { sent }, error }
    }
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} messages of the batch were sent)", self.error, self.sent)
    }
}

impl std::error::Error for Partial {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

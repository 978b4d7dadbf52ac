//! The Rust peer of tests/interop/PEER.md: it does with a ring what a test tells it to, one command a line.

mod content;
mod messages;
mod rings;
mod storm;

use std::io::{BufRead, Write};
use std::time::Duration;

use millrace::{Consumer, Error, FormatClass, Producer, Ring};

/// An answer that is not `ok`: the error, how many messages came before it, and those received.
pub struct Failure {
    code: &'static str,
    text: String,
    count: usize,
    items: Vec<String>,
}

pub type Answer = Result<Vec<String>, Failure>;

impl Failure {
    pub fn new(code: &'static str, text: impl ToString) -> Failure {
        Failure { code, text: text.to_string(), count: 0, items: Vec::new() }
    }

    pub fn after(mut self, count: usize, items: Vec<String>) -> Failure {
        (self.count, self.items) = (count, items);
        self
    }
}

pub fn protocol(text: impl ToString) -> Failure {
    Failure::new("protocol", text)
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::new(code(&e), e)
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Failure {
        Failure::new("system", e)
    }
}

/// The name of an error in the protocol.
pub fn code(e: &Error) -> &'static str {
    match e {
        Error::Full => "full",
        Error::Empty => "empty",
        Error::End => "eof",
        Error::Closed => "closed",
        Error::NoConsumers => "noconsumers",
        Error::TimedOut => "timeout",
        Error::Stalled(_) => "stalled",
        Error::TooLarge { .. } => "size",
        Error::ShortBuffer { .. } => "shortbuffer",
        Error::Misuse => "misuse",
        Error::RoleTaken => "roletaken",
        Error::TooManyParticipants => "toomany",
        Error::Exists => "exist",
        Error::NotFound => "notexist",
        Error::InUse => "inuse",
        Error::ReadOnly => "permission",
        Error::SegmentLost => "lost",
        Error::Mismatch(_) => "mismatch",
        Error::Option(..) => "invalid",
        Error::Unsupported(_) => "unsupported",
        Error::Format(f) => match f.class {
            FormatClass::NotSegment => "notsegment",
            FormatClass::ByteOrder => "byteorder",
            FormatClass::Version => "version",
            FormatClass::Layout => "layout",
            FormatClass::Corrupt => "corrupt",
        },
        Error::Io(e) if e.source.kind() == std::io::ErrorKind::PermissionDenied => "permission",
        _ => "system",
    }
}

/// What the commands work on. The handles come first, so that they are dropped before the ring.
pub struct Peer {
    pub producer: Option<Producer>,
    pub consumer: Option<Consumer>,
    pub ring: Option<Ring>,
    pub timeout: Option<Duration>,
    pub held: usize,   // index of the first message of the lease that is held
    pub leased: usize, // messages that the lease was taken with
}

impl Peer {
    pub fn producing(&mut self) -> Result<&mut Producer, Failure> {
        self.producer.as_mut().ok_or_else(|| protocol("no producer"))
    }

    pub fn consuming(&mut self) -> Result<&mut Consumer, Failure> {
        self.consumer.as_mut().ok_or_else(|| protocol("no consumer"))
    }

    pub fn open(&self) -> Result<&Ring, Failure> {
        self.ring.as_ref().ok_or_else(|| protocol("no ring"))
    }
}

/// The words behind a command.
pub struct Words<'a>(std::slice::Iter<'a, &'a str>);

impl<'a> Words<'a> {
    pub fn word(&mut self) -> Result<&'a str, Failure> {
        self.0.next().copied().ok_or_else(|| protocol("too few words"))
    }

    pub fn number(&mut self) -> Result<u64, Failure> {
        let w = self.word()?;
        w.parse().map_err(|_| protocol(format!("number {w:?}")))
    }

    pub fn optional(&mut self) -> Result<Option<u64>, Failure> {
        if self.0.len() == 0 {
            return Ok(None);
        }
        self.number().map(Some)
    }

    pub fn flag(&self, w: &str) -> bool {
        self.0.as_slice().contains(&w)
    }

    pub fn key(&self, key: &str) -> Option<&'a str> {
        self.0.as_slice().iter().find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
    }

    pub fn key_number(&self, key: &str, base: u32) -> Result<Option<u32>, Failure> {
        self.key(key).map(|v| u32::from_str_radix(v, base).map_err(|_| protocol(format!("{key}={v}")))).transpose()
    }
}

/// Prints one line; when nobody listens, this program has no purpose.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

fn main() {
    let mut peer = Peer { producer: None, consumer: None, ring: None, timeout: Some(Duration::from_secs(20)), held: 0, leased: 0 };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((command, rest)) = words.split_first() else { continue };
        let mut words = Words(rest.iter());
        if *command == "exit" {
            break;
        }
        let mut then: Option<storm::Storm> = None;
        let answer = match *command {
            "pour" => storm::pour(&mut peer, &mut words).map(|s| then = Some(s)).map(|()| Vec::new()),
            "swallow" => storm::swallow(&mut peer, &mut words).map(|s| then = Some(s)).map(|()| Vec::new()),
            _ => rings::run(&mut peer, command, &mut words)
                .or_else(|| messages::run(&mut peer, command, &mut words))
                .unwrap_or_else(|| Err(protocol(format!("unknown command {command}")))),
        };
        match answer {
            Ok(words) => say(&[&["ok".to_string()][..], &words].concat().join(" ")),
            Err(f) => {
                eprintln!("peer: {}", f.text);
                say(&[&[format!("err {} {}", f.code, f.count)][..], &f.items].concat().join(" "));
            }
        }
        if let Some(storm) = then {
            storm(&mut peer);
        }
        if *command == "hold" {
            loop {
                std::thread::park();
            }
        }
    }
    std::process::exit(0) // without closing anything first, as if it had crashed
}

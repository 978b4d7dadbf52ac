//! Commands for tests that kill: they note what they have done where it outlives them.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace::{Consumer, Delivery, Error, Producer};

use crate::content::fill;
use crate::messages::{item, receive, send, send_batch, Stream};
use crate::{protocol, say, Failure, Peer, Words};

/// What follows the answer.
pub type Storm = Box<dyn FnOnce(&mut Peer)>;

const BATCH: u64 = 8;

extern "C" {
    fn mmap(at: *mut u8, len: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
}

/// Maps a file of 8 bytes, for as long as this program runs.
fn progress(name: &str) -> Result<&'static AtomicU64, Failure> {
    const READ_WRITE: i32 = 3;
    const SHARED: i32 = 1;
    let f = File::options().read(true).write(true).open(name)?;
    // SAFETY: the kernel chooses the addresses, and the mapping is never taken away.
    let at = unsafe { mmap(std::ptr::null_mut(), 8, READ_WRITE, SHARED, f.as_raw_fd(), 0) };
    if at as isize == -1 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: a page begins there.
    Ok(unsafe { &*at.cast() })
}

/// Prints the last line of pour and swallow.
fn end(r: Result<(), Failure>, count: u64) {
    let code = r.map_or_else(
        |f| {
            eprintln!("peer: {}", f.text);
            f.code
        },
        |()| "ok",
    );
    say(&format!("end {code} {count}"));
}

/// Sends messages of a stream from i on, at most the given number, and says how many.
type Pour = fn(&mut Producer, &Stream, u64, u64, Option<Duration>) -> Result<u64, (u64, Error)>;

pub fn pour(p: &mut Peer, words: &mut Words) -> Result<Storm, Failure> {
    let mode = words.word()?;
    let s = Stream::read(words)?;
    let most = match words.number()? {
        0 => u64::MAX,
        n => n,
    };
    let how: Pour = match mode {
        "send" => |x, s, i, _, t| send(x, &s.message(i), t).map(|()| 1).map_err(|e| (0, e)),
        "try" => |x, s, i, _, _| loop {
            match x.try_send(&s.message(i)) {
                Err(Error::Full) => {}
                r => return r.map(|()| 1).map_err(|e| (0, e)),
            }
        },
        "batch" => |x, s, i, left, t| {
            let msgs: Vec<Vec<u8>> = (i..i + left.min(BATCH)).map(|i| s.message(i)).collect();
            let refs: Vec<&[u8]> = msgs.iter().map(|m| &m[..]).collect();
            send_batch(x, &refs, t).map(|()| refs.len() as u64).map_err(|e| (e.sent as u64, e.error))
        },
        "reserve" => |x, s, i, _, t| {
            let seq = s.first.wrapping_add(i);
            let n = s.sizes.of(seq) as usize;
            let room = match t {
                None => x.reserve(n),
                Some(t) => x.reserve_timeout(n, t),
            };
            room.and_then(|mut room| {
                fill(&mut room, s.seed, seq);
                room.commit()
            })
            .map(|()| 1)
            .map_err(|e| (0, e))
        },
        w => return Err(protocol(format!("pour {w}"))),
    };
    let done = progress(words.word()?)?;
    p.producing()?;
    Ok(Box::new(move |p| {
        let timeout = p.timeout;
        let Some(x) = p.producer.as_mut() else { return };
        let mut sent = 0;
        while sent < most {
            let r = how(x, &s, sent, most - sent, timeout);
            sent += *r.as_ref().unwrap_or_else(|(n, _)| n);
            done.store(sent, Ordering::Release);
            if let Err((_, e)) = r {
                return end(Err(e.into()), sent);
            }
        }
        end(Ok(()), sent);
    }))
}

/// Receives, notes what it was, and says how many that were.
type Swallow = fn(&mut Consumer, &mut File, &mut [u8], Option<Duration>) -> Result<u64, Failure>;

pub fn swallow(p: &mut Peer, words: &mut Words) -> Result<Storm, Failure> {
    let mode = words.word()?;
    let name = words.word()?;
    p.consuming()?;
    let how: Swallow = match mode {
        "receive" => |q, log, buf, t| receive(q, buf, t).map_err(Failure::from).and_then(|n| record(log, q.last(), &buf[..n])),
        "try" => |q, log, buf, _| loop {
            match q.try_receive(buf) {
                Err(Error::Empty) => {}
                r => return r.map_err(Failure::from).and_then(|n| record(log, q.last(), &buf[..n])),
            }
        },
        "next" => |q, log, _, t| lease(q, log, 1, t),
        "batch" => |q, log, _, t| lease(q, log, BATCH as usize, t),
        w => return Err(protocol(format!("swallow {w}"))),
    };
    let mut log = File::options().append(true).create(true).open(name)?;
    let mut buf = vec![0; p.open()?.max_message()];
    Ok(Box::new(move |p| {
        let timeout = p.timeout;
        let Some(q) = p.consumer.as_mut() else { return };
        let mut received = 0;
        loop {
            match how(q, &mut log, &mut buf, timeout) {
                Ok(n) => received += n,
                Err(f) => return end(Err(f), received),
            }
        }
    }))
}

/// Notes a message that was received.
fn record(log: &mut File, d: Delivery, b: &[u8]) -> Result<u64, Failure> {
    let (_, seed, seq) = item(d, b)?;
    let words = [seq, seed, d.deliveries.into()].map(u64::to_le_bytes);
    log.write_all(&words.concat())?;
    Ok(1)
}

fn lease(q: &mut Consumer, log: &mut File, limit: usize, t: Option<Duration>) -> Result<u64, Failure> {
    let b = match t {
        None => q.next_batch(limit),
        Some(t) => q.next_batch_timeout(limit, t),
    }?;
    let mut n = 0;
    for v in b.iter() {
        n += record(log, Delivery { position: v.position, deliveries: v.deliveries }, v.bytes)?;
    }
    b.release();
    Ok(n)
}

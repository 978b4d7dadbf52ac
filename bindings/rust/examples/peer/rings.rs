//! Commands about rings and handles.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use millrace::{Backing, ConsumerOptions, Error, Kind, OnConsumerDeath, OpenOptions, Options, ProducerOptions, RemoveOptions, State};

use crate::{code, protocol, Answer, Failure, Peer, Words};

/// Runs a command, if it is one of these.
pub fn run(p: &mut Peer, command: &str, words: &mut Words) -> Option<Answer> {
    Some(match command {
        "hello" => Ok(vec!["rust".into()]),
        "hold" => Ok(vec![]),
        "timeout" => words.number().map(|ms| {
            p.timeout = (ms > 0).then(|| Duration::from_millis(ms));
            vec![]
        }),
        "create" => create(p, words),
        "openorcreate" => open_or_create(p, words),
        "open" => open(p, words, OpenOptions::new()),
        "observe" => open(p, words, OpenOptions::new().read_only()),
        "remove" => remove(words),
        "producer" => producer(p, words),
        "consumer" => consumer(p, words),
        "recover" => p.open().and_then(|r| Ok(vec![r.recover()?.len().to_string()])),
        "info" => info(p),
        "stats" => stats(p),
        "who" => who(p),
        "fork" => forked(p),
        "close" => close(p, words),
        _ => return None,
    })
}

/// Reads NAME KIND SLOTS SLOTSIZE POLICY [KEY=VALUE]...
fn options<'a>(words: &mut Words<'a>) -> Result<(&'a str, Options), Failure> {
    let name = words.word()?;
    let kind = match words.word()? {
        "spsc" => Kind::Spsc,
        "mpmc" => Kind::Mpmc,
        w => return Err(protocol(format!("kind {w:?}"))),
    };
    let mut o = Options::new().kind(kind).slots(words.number()?).slot_size(words.number()?);
    o = o.on_consumer_death(match words.word()? {
        "redeliver" => OnConsumerDeath::Redeliver,
        "drop" => OnConsumerDeath::Drop,
        w => return Err(protocol(format!("policy {w:?}"))),
    });
    if let Some(n) = words.key_number("maxdeliveries", 10)? {
        o = o.max_deliveries(n);
    }
    if let Some(n) = words.key_number("participants", 10)? {
        o = o.participants(n);
    }
    if let Some(mode) = words.key_number("perm", 8)? {
        o = o.mode(mode);
    }
    match words.key("backing") {
        None => {}
        Some("posix") => o = o.backing(Backing::Posix),
        Some("sysv") => o = o.backing(Backing::SysV),
        Some(w) => return Err(protocol(format!("backing {w:?}"))),
    }
    Ok((name, o))
}

fn create(p: &mut Peer, words: &mut Words) -> Answer {
    let (name, o) = options(words)?;
    set(p, o.create(name)?);
    Ok(vec![])
}

fn open_or_create(p: &mut Peer, words: &mut Words) -> Answer {
    let (name, o) = options(words)?;
    let (ring, created) = o.open_or_create(name)?;
    set(p, ring);
    Ok(vec![if created { "created" } else { "opened" }.into()])
}

fn open(p: &mut Peer, words: &mut Words, o: OpenOptions) -> Answer {
    set(p, o.open(words.word()?)?);
    Ok(vec![])
}

/// Replaces the ring, and closes what belonged to the last one.
fn set(p: &mut Peer, ring: millrace::Ring) {
    (p.producer, p.consumer) = (None, None);
    p.ring = Some(ring);
}

fn remove(words: &mut Words) -> Answer {
    let name = words.word()?;
    let mut o = RemoveOptions::new();
    if words.flag("drained") {
        o = o.if_drained();
    }
    if words.flag("force") {
        o = o.force();
    }
    o.remove(name)?;
    Ok(vec![])
}

fn producer(p: &mut Peer, words: &mut Words) -> Answer {
    p.producer = Some(p.open()?.producer_with(ProducerOptions { wait_for_consumers: words.flag("wait") })?);
    Ok(vec![])
}

fn consumer(p: &mut Peer, words: &mut Words) -> Answer {
    let grace = Duration::from_millis(words.key_number("grace", 10)?.unwrap_or(0).into());
    p.consumer = Some(p.open()?.consumer_with(ConsumerOptions { follow: words.flag("follow"), grace })?);
    Ok(vec![])
}

fn info(p: &mut Peer) -> Answer {
    let r = p.open()?;
    let h = r.header();
    let name = |names: &[&str], i: u32| names[i as usize - 1].to_string();
    Ok(vec![
        format!("kind={}", name(&["spsc", "mpmc"], h.kind)),
        format!("slots={}", h.slots),
        format!("slotsize={}", h.slot_size),
        format!("policy={}", name(&["redeliver", "drop"], h.policy)),
        format!("maxdeliveries={}", h.max_deliveries),
        format!("participants={}", h.participants),
        format!("backing={}", name(&["posix", "sysv", "memfd"], h.backing)),
        format!("maxmessage={}", r.max_message()),
    ])
}

fn stats(p: &mut Peer) -> Answer {
    let s = p.open()?.stats()?;
    let all = [
        ("used", s.used),
        ("producer_position", s.producer_position),
        ("consumer_position", s.consumer_position),
        ("sent", s.sent),
        ("received", s.received),
        ("redelivered", s.redelivered),
        ("lost", s.lost),
        ("skipped", s.skipped),
        ("padding", s.padding),
        ("discarded", s.discarded),
        ("recoveries", s.recoveries),
        ("producers_ever", s.producers_ever),
        ("producers_live", s.producers_live),
        ("producers_died", s.producers_died),
        ("consumers_ever", s.consumers_ever),
        ("consumers_live", s.consumers_live),
        ("consumers_died", s.consumers_died),
    ];
    Ok(all.iter().map(|(key, n)| format!("{key}={n}")).collect())
}

fn who(p: &mut Peer) -> Answer {
    let state = |s| match s {
        State::Live => "live",
        State::Stalled => "stalled",
        State::Dead => "dead",
    };
    Ok(p.open()?.participants().iter().map(|i| format!("{}:{}:{}", i.id, i.role, state(i.state))).collect())
}

extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(status: i32) -> !;
}

/// What a forked child gets from the handles that it inherited.
fn forked(p: &mut Peer) -> Answer {
    let (mut here, mut there) = UnixStream::pair()?;
    // SAFETY: this program has one thread, so the child may do what it likes.
    let pid = unsafe { fork() };
    if pid == 0 {
        let answer = |r: Option<Result<(), Error>>| r.map_or("none", |r| r.map_or_else(|e| code(&e), |()| "ok"));
        let sent = answer(p.producer.as_mut().map(|x| x.try_send(b"from a child")));
        let received = answer(p.consumer.as_mut().map(|x| x.try_receive(&mut [0; 64]).map(|_| ())));
        let written = there.write_all(format!("{sent} {received}").as_bytes());
        // SAFETY: nothing of the parent's is run in the child.
        unsafe { _exit(written.is_err().into()) };
    }
    drop(there);
    let mut text = String::new();
    here.read_to_string(&mut text)?;
    // SAFETY: the child is ours, and no status is asked for.
    if pid < 0 || unsafe { waitpid(pid, std::ptr::null_mut(), 0) } != pid {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(vec![text])
}

fn close(p: &mut Peer, words: &mut Words) -> Answer {
    match words.word()? {
        "producer" => p.producer = None,
        "consumer" => p.consumer = None,
        "ring" => (p.producer, p.consumer, p.ring) = (None, None, None),
        w => return Err(protocol(format!("close {w:?}"))),
    }
    Ok(vec![])
}

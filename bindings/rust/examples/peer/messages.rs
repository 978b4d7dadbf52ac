//! Commands that send and receive.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace::{Batch, Consumer, Delivery, Error, Partial, Producer};

use crate::content::{fill, message, read, Sizes};
use crate::{protocol, Answer, Failure, Peer, Words};

/// Runs a command, if it is one of these.
pub fn run(p: &mut Peer, command: &str, words: &mut Words) -> Option<Answer> {
    Some(match command {
        "send" => send_each(p, words, send),
        "trysend" => send_each(p, words, |x, m, _| x.try_send(m)),
        "sendbatch" => send_all(p, words, send_batch),
        "trysendbatch" => send_all(p, words, |x, m, _| x.try_send_batch(m)),
        "reserve" | "tryreserve" => reserve(p, words, command == "reserve"),
        "commit" => commit(p, words),
        "discard" => match p.producing().map(Producer::kept) {
            Err(e) => Err(e),
            Ok(None) => Err(Error::Misuse.into()),
            Ok(Some(r)) => {
                r.discard();
                Ok(vec![])
            }
        },
        "receive" => receive_each(p, words, receive),
        "tryreceive" => receive_each(p, words, |q, buf, _| q.try_receive(buf)),
        "next" | "trynext" => lease(p, 1, command == "next"),
        "nextbatch" | "trynextbatch" => words.number().and_then(|n| lease(p, n as usize, command == "nextbatch")),
        "release" => words.optional().and_then(|i| release(p, i)),
        "return" => words.optional().and_then(|i| give_back(p, i)),
        "last" => p.consuming().map(|q| {
            let d = q.last();
            vec![d.position.to_string(), d.deliveries.to_string()]
        }),
        "drain" => drain(p),
        _ => return None,
    })
}

/// What the sending commands send: messages of a stream from `first` on.
pub struct Stream {
    pub sizes: Sizes,
    pub seed: u64,
    pub first: u64,
}

impl Stream {
    pub fn read(words: &mut Words) -> Result<Stream, Failure> {
        let sizes = sizes(words)?;
        Ok(Stream { sizes, seed: words.number()?, first: words.number()? })
    }

    pub fn message(&self, i: u64) -> Vec<u8> {
        let seq = self.first.wrapping_add(i);
        message(self.sizes.of(seq), self.seed, seq)
    }
}

fn sizes(words: &mut Words) -> Result<Sizes, Failure> {
    let w = words.word()?;
    Sizes::parse(w).ok_or_else(|| protocol(format!("size {w:?}")))
}

pub fn send(p: &mut Producer, msg: &[u8], timeout: Option<Duration>) -> Result<(), Error> {
    match timeout {
        None => p.send(msg),
        Some(t) => p.send_timeout(msg, t),
    }
}

pub fn send_batch(p: &mut Producer, msgs: &[&[u8]], timeout: Option<Duration>) -> Result<(), Partial> {
    match timeout {
        None => p.send_batch(msgs),
        Some(t) => p.send_batch_timeout(msgs, t),
    }
}

pub fn receive(q: &mut Consumer, buf: &mut [u8], timeout: Option<Duration>) -> Result<usize, Error> {
    match timeout {
        None => q.receive(buf),
        Some(t) => q.receive_timeout(buf, t),
    }
}

type SendOne = fn(&mut Producer, &[u8], Option<Duration>) -> Result<(), Error>;
type SendAll = fn(&mut Producer, &[&[u8]], Option<Duration>) -> Result<(), Partial>;
type ReceiveOne = fn(&mut Consumer, &mut [u8], Option<Duration>) -> Result<usize, Error>;

fn send_each(p: &mut Peer, words: &mut Words, f: SendOne) -> Answer {
    let n = words.number()?;
    let (s, timeout) = (Stream::read(words)?, p.timeout);
    let x = p.producing()?;
    for i in 0..n {
        f(x, &s.message(i), timeout).map_err(|e| Failure::from(e).after(i as usize, vec![]))?;
    }
    Ok(vec![n.to_string()])
}

fn send_all(p: &mut Peer, words: &mut Words, f: SendAll) -> Answer {
    let n = words.number()?;
    let (s, timeout) = (Stream::read(words)?, p.timeout);
    let msgs: Vec<Vec<u8>> = (0..n).map(|i| s.message(i)).collect();
    let refs: Vec<&[u8]> = msgs.iter().map(|m| &m[..]).collect();
    f(p.producing()?, &refs, timeout).map_err(|e| Failure::from(e.error).after(e.sent, vec![]))?;
    Ok(vec![n.to_string()])
}

fn reserve(p: &mut Peer, words: &mut Words, wait: bool) -> Answer {
    let sizes = sizes(words)?;
    let (seed, seq) = (words.number()?, words.number()?);
    let (n, timeout) = (sizes.of(seq) as usize, p.timeout);
    let x = p.producing()?;
    let mut room = match (wait, timeout) {
        (false, _) => x.try_reserve(n),
        (true, None) => x.reserve(n),
        (true, Some(t)) => x.reserve_timeout(n, t),
    }?;
    fill(&mut room, seed, seq);
    room.keep();
    Ok(vec![])
}

fn commit(p: &mut Peer, words: &mut Words) -> Answer {
    let n = words.optional()?;
    let room = p.producing()?.kept().ok_or(Error::Misuse)?;
    let (n, max) = (n.map_or(room.len(), |n| n as usize), room.len());
    if n > max {
        room.keep(); // it can still be committed
        return Err(Error::TooLarge { got: n, max }.into());
    }
    room.commit_len(n)?;
    Ok(vec![])
}

/// Shows a message; `torn` when its bytes are not what they must be.
pub fn item(d: Delivery, b: &[u8]) -> Result<(String, u64, u64), Failure> {
    let (seed, seq, whole) = read(b);
    if !whole {
        return Err(Failure::new("torn", "torn message"));
    }
    Ok((format!("{}:{}:{}:{seed}:{seq}", d.position, d.deliveries, b.len()), seed, seq))
}

fn receive_each(p: &mut Peer, words: &mut Words, f: ReceiveOne) -> Answer {
    let (n, timeout) = (words.number()?, p.timeout);
    p.consuming()?;
    let mut buf = vec![0; p.open()?.max_message()];
    let q = p.consuming()?;
    let mut items = Vec::new();
    for _ in 0..n {
        let got = f(q, &mut buf, timeout).map_err(Failure::from).and_then(|n| item(q.last(), &buf[..n]));
        match got {
            Ok((shown, _, _)) => items.push(shown),
            Err(e) => return Err(e.after(items.len(), items)),
        }
    }
    items.insert(0, n.to_string());
    Ok(items)
}

/// Shows the messages of a lease that are held.
fn items(b: &Batch) -> Result<Vec<String>, Failure> {
    let mut items = Vec::new();
    for v in b.iter() {
        match item(Delivery { position: v.position, deliveries: v.deliveries }, v.bytes) {
            Ok((shown, _, _)) => items.push(shown),
            Err(e) => return Err(e.after(items.len(), items)),
        }
    }
    Ok(items)
}

fn lease(p: &mut Peer, limit: usize, wait: bool) -> Answer {
    let timeout = p.timeout;
    let q = p.consuming()?;
    let b = match (wait, timeout) {
        (false, _) => q.try_next_batch(limit),
        (true, None) => q.next_batch(limit),
        (true, Some(t)) => q.next_batch_timeout(limit, t),
    }?;
    let shown = items(&b);
    let n = b.len();
    b.keep();
    (p.held, p.leased) = (0, n);
    let mut shown = shown?;
    shown.insert(0, n.to_string());
    Ok(shown)
}

fn release(p: &mut Peer, i: Option<u64>) -> Answer {
    let (held, leased) = (p.held, p.leased);
    let mut b = p.consuming()?.kept().ok_or(Error::Misuse)?;
    let shown = items(&b); // they must not have changed while they were held
    let i = i.map_or(leased.wrapping_sub(1), |i| i as usize);
    if shown.is_err() || i < held || i >= leased {
        b.keep();
        shown?;
        return Err(Error::Misuse.into());
    }
    b.release_first(i + 1 - held);
    b.keep();
    p.held = i + 1;
    Ok(vec![])
}

fn give_back(p: &mut Peer, i: Option<u64>) -> Answer {
    let held = p.held;
    let b = p.consuming()?.kept().ok_or(Error::Misuse)?;
    if i.is_some_and(|i| i as usize != held) {
        b.keep();
        return Err(Error::Misuse.into());
    }
    b.give_back();
    Ok(vec![])
}

/// What drain says of one stream.
#[derive(Default)]
struct Summary {
    count: u64,
    low: u64,
    high: u64,
    sum: u64,
    newest: u64, // the highest SEQ that was delivered for the first time, plus 1
}

fn drain(p: &mut Peer) -> Answer {
    let timeout = p.timeout;
    p.consuming()?;
    let mut buf = vec![0; p.open()?.max_message()];
    let q = p.consuming()?;
    let (mut count, mut again) = (0, 0);
    let mut streams: BTreeMap<u64, Summary> = BTreeMap::new();
    loop {
        let n = match receive(q, &mut buf, timeout) {
            Err(Error::End) => break,
            r => r.map_err(|e| Failure::from(e).after(count, vec![]))?,
        };
        let (_, seed, seq) = item(q.last(), &buf[..n]).map_err(|e| e.after(count, vec![]))?;
        let s = streams.entry(seed).or_insert(Summary { low: seq, ..Summary::default() });
        if q.last().deliveries > 1 {
            again += 1;
        } else if seq < s.newest {
            return Err(Failure::new("order", "messages out of order").after(count, vec![]));
        } else {
            s.newest = seq + 1;
        }
        count += 1;
        s.count += 1;
        (s.low, s.high, s.sum) = (s.low.min(seq), s.high.max(seq), s.sum.wrapping_add(seq));
    }
    let mut words = vec![count.to_string(), again.to_string()];
    words.extend(streams.iter().map(|(seed, s)| format!("{seed}:{}:{}:{}:{}", s.count, s.low, s.high, s.sum)));
    Ok(words)
}

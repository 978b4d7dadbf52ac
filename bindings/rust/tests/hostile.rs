//! Whatever bytes lie behind a sound header: calls return, nothing panics, nothing is touched that is not the ring's.

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::Dir;
use millrace::layout::*;
use millrace::{Kind, OnConsumerDeath, OpenOptions, Options, Ring};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A value that is likely to hurt at this place, given what stands there.
    fn word(&mut self, old: u64) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => old.wrapping_add(1 << self.below(64)),
            3 => old ^ 1 << self.below(64),
            4 => old & !0xFF | [STATE_FREE, STATE_CLAIMED, STATE_DONE, STATE_READY, STATE_TAKEN, 7][self.below(6) as usize],
            5 => self.below(64),
            6 => old.wrapping_sub(self.below(40) << MPMC_SEQUENCE_SHIFT),
            _ => self.next(),
        }
    }

    /// Changes one word behind the header; mostly one that means something.
    fn spoil(&mut self, f: &File, r: &Ring) {
        let h = r.header();
        let at = match self.below(4) {
            0 => CONTROL_OFFSET + CONTROL_FIELDS[self.below(CONTROL_FIELDS.len() as u64) as usize].offset as u64,
            1 => {
                PARTICIPANTS_OFFSET
                    + self.below(u64::from(h.participants)) * PARTICIPANT_SIZE as u64
                    + PARTICIPANT_FIELDS[self.below(PARTICIPANT_FIELDS.len() as u64) as usize].offset as u64
            }
            2 => h.entries_offset + self.below(h.slots) * u64::from(h.entry_stride) + self.below(2) * 8,
            _ => CONTROL_OFFSET + self.below((h.segment_size - CONTROL_OFFSET) / 8) * 8,
        };
        let at = at & !7;
        if at == CONTROL_OFFSET + CONTROL_ROSTER as u64 {
            return; // together with `removed`, which would end every call
        }
        let mut b = [0; 8];
        f.read_exact_at(&mut b, at).unwrap();
        f.write_all_at(&self.word(u64::from_le_bytes(b)).to_le_bytes(), at).unwrap();
    }
}

fn ring(dir: &Dir, r: &mut Random) -> Ring {
    let kind = if r.below(2) == 0 { Kind::Spsc } else { Kind::Mpmc };
    let mut o = Options::new().dir(&dir.0).kind(kind).slots(1 << r.below(5)).slot_size(1 + r.below(40)).participants(4);
    if r.below(3) == 0 {
        o = o.on_consumer_death(OnConsumerDeath::Drop);
    }
    o.max_deliveries([0, 1, 3][r.below(3) as usize]).create("q").unwrap()
}

/// Makes calls of every kind; their answers do not matter, only that there is one.
fn use_it(ring: &Ring, r: &mut Random) {
    let max = ring.max_message();
    let _ = (ring.stats(), ring.peek(5), ring.participants());
    if r.below(4) == 0 {
        let _ = ring.recover();
    }
    let (p, q) = (ring.producer(), ring.consumer());
    let msg = vec![7; r.below(max as u64 + 1) as usize];
    let mut buf = vec![0; max];
    let wait = Duration::from_millis(r.below(2));
    if let Ok(mut p) = p {
        let _ = p.try_send(&msg);
        let _ = p.send_timeout(&msg, wait);
        let _ = p.try_send_batch(&[b"", &msg, b"", &msg]);
        let _ = p.try_send_batch(&[b"", b"", b""]);
        if let Ok(mut room) = p.try_reserve(msg.len()) {
            room.fill(1);
            if r.below(2) == 0 {
                let _ = room.commit();
            }
        }
    }
    if let Ok(mut q) = q {
        let _ = q.try_receive(&mut buf);
        let _ = q.receive_timeout(&mut buf, wait);
        if let Ok(m) = q.try_next() {
            assert!(m.iter().map(|x| u64::from(*x)).sum::<u64>() <= 255 * m.len() as u64);
            if r.below(2) == 0 {
                m.give_back();
            }
        }
        if let Ok(mut b) = q.try_next_batch(3) {
            assert!(b.iter().map(|v| v.bytes.len()).sum::<usize>() <= 3 * max);
            b.release_first(1);
        }
        let _ = q.try_receive(&mut buf);
    }
}

/// Runs `f` again and again with seeds, and fails when one takes longer than any call may. `MILLRACE_HOSTILE` multiplies the rounds.
fn watched(rounds: u64, f: fn(u64)) {
    let rounds = rounds * std::env::var("MILLRACE_HOSTILE").map_or(1, |n| n.parse().unwrap());
    let (done, seed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (done2, seed2) = (done.clone(), seed.clone());
    let work = thread::spawn(move || {
        for i in 1..=rounds {
            seed2.store(i, Ordering::Relaxed);
            f(i);
        }
        done2.store(true, Ordering::Relaxed);
    });
    let (mut at, mut since) = (0, Instant::now());
    while !work.is_finished() {
        let now = seed.load(Ordering::Relaxed);
        if now != at {
            (at, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < Duration::from_secs(60), "seed {at} hangs");
        thread::sleep(Duration::from_millis(1));
    }
    if let Err(e) = work.join() {
        eprintln!("seed {at}");
        std::panic::resume_unwind(e);
    }
    assert!(done.load(Ordering::Relaxed));
}

/// A ring that was used, then some words of it changed, then used again.
#[test]
fn spoiled_words() {
    watched(1500, |seed| {
        let mut r = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let dir = Dir::new();
        let first = ring(&dir, &mut r);
        use_it(&first, &mut r);
        // Live participants that hold something, beside those that come later.
        let (mut p, mut q) = (first.producer().unwrap(), first.consumer().unwrap());
        let _ = p.try_send(b"a");
        let _ = p.try_send_batch(&[b"b", b"c"]);
        let _ = q.try_next_batch(2).map(|b| b.keep());
        let f = File::options().read(true).write(true).open(dir.0.join("q")).unwrap();
        for _ in 0..1 + r.below(6) {
            r.spoil(&f, &first);
        }
        if r.below(2) == 0 {
            drop(q.kept()); // released; otherwise given back with the handle
        }
        let again = OpenOptions::new().dir(&dir.0).open("q").unwrap();
        use_it(&again, &mut r);
        let _ = p.try_send(b"d");
        let _ = p.send_timeout(b"e", Duration::from_millis(1));
        let _ = q.try_next();
        drop((p, q));
        use_it(&again, &mut r);
    });
}

/// Words change while calls run.
#[test]
fn words_that_change_meanwhile() {
    watched(60, |seed| {
        let mut r = Random(seed.wrapping_mul(0xBF58_476D_1CE4_E5B9));
        let dir = Dir::new();
        let used = ring(&dir, &mut r);
        let f = File::options().read(true).write(true).open(dir.0.join("q")).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|s| {
            let (used, stop) = (&used, &stop);
            let mut flips = Random(r.next());
            s.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    flips.spoil(&f, used);
                }
            });
            for _ in 0..20 {
                use_it(used, &mut r);
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}

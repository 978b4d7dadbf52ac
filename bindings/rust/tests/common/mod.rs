//! What the tests share.

#![allow(dead_code)] // each test uses a part of it

pub mod json;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use millrace::{Kind, Options, Ring};

/// A directory of shared memory that goes with the test.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/dev/shm/millrace-rust-{}-{n}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Dir(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The bytes of message `seq`.
pub fn bytes(seq: u64, n: usize) -> Vec<u8> {
    let mut x = seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

/// Both kinds of ring.
pub const KINDS: [Kind; 2] = [Kind::Spsc, Kind::Mpmc];

/// A ring `q` of eight participants.
pub fn ring(dir: &Dir, kind: Kind, slots: u64, slot_size: u64) -> Ring {
    options(dir, kind, slots, slot_size).create("q").unwrap()
}

/// What such a ring is made with.
pub fn options(dir: &Dir, kind: Kind, slots: u64, slot_size: u64) -> Options {
    Options::new().dir(&dir.0).kind(kind).slots(slots).slot_size(slot_size).participants(8)
}

//! What the messages of the peers contain.

/// Writes message `seq` of stream `seed` over `b`.
pub fn fill(b: &mut [u8], seed: u64, seq: u64) {
    let mut x = (seed ^ seq.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1;
    for (i, part) in b.chunks_mut(8).enumerate() {
        let word = match i {
            0 => seq,
            1 => seed,
            _ => {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                x
            }
        };
        part.copy_from_slice(&word.to_le_bytes()[..part.len()]);
    }
}

/// Message `seq` of stream `seed` with `n` bytes.
pub fn message(n: u64, seed: u64, seq: u64) -> Vec<u8> {
    let mut b = vec![0; n as usize];
    fill(&mut b, seed, seq);
    b
}

/// Which message `b` is, seed and seq, and whether the rest of it is whole.
pub fn read(b: &[u8]) -> (u64, u64, bool) {
    let mut head = [0; 16];
    let n = b.len().min(16);
    head[..n].copy_from_slice(&b[..n]);
    let word = |at: usize| head[at..at + 8].iter().rev().fold(0, |w, x| w << 8 | u64::from(*x));
    let (seq, seed) = (word(0), word(8));
    (seed, seq, b.len() <= 16 || message(b.len() as u64, seed, seq) == b)
}

/// The SIZE of a command.
#[derive(Clone, Copy)]
pub struct Sizes(u64, u64);

impl Sizes {
    pub fn parse(s: &str) -> Option<Sizes> {
        let (a, b) = s.split_once("..").unwrap_or((s, s));
        let (a, b) = (a.parse().ok()?, b.parse().ok()?);
        (a <= b).then_some(Sizes(a, b))
    }

    pub fn of(self, seq: u64) -> u64 {
        self.0 + seq.wrapping_mul(7919) % (self.1 - self.0 + 1)
    }
}

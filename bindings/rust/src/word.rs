//! State words, `docs/FORMAT.md` section 5: sequence, owner, state.
//!
//! Sequences are positions modulo 2^44 (MPMC) or 2^56 (SPSC). They are compared with private 64-bit positions by the sign of the difference,
//! so the modulus never shows. Positions are compared in the same way.

use crate::layout::*;

/// READY and TAKEN carry a count in the low six bits.
const CLASS: u64 = 0xC0;

#[inline(always)]
pub(crate) fn free_word(p: u64) -> u64 {
    p << MPMC_SEQUENCE_SHIFT | STATE_FREE
}

#[inline(always)]
pub(crate) fn ready_word(e: u64, r: u64) -> u64 {
    e << MPMC_SEQUENCE_SHIFT | STATE_READY | r
}

#[inline(always)]
fn owned_word(e: u64, owner: u32, state: u64) -> u64 {
    e << MPMC_SEQUENCE_SHIFT | u64::from(owner) << OWNER_SHIFT | state
}

#[inline(always)]
pub(crate) fn claimed_word(e: u64, owner: u32) -> u64 {
    owned_word(e, owner, STATE_CLAIMED)
}

#[inline(always)]
pub(crate) fn done_word(e: u64, owner: u32) -> u64 {
    owned_word(e, owner, STATE_DONE)
}

#[inline(always)]
pub(crate) fn taken_word(e: u64, owner: u32, r: u64) -> u64 {
    owned_word(e, owner, STATE_TAKEN | r)
}

#[inline(always)]
pub(crate) fn spsc_word(e: u64, r: u64) -> u64 {
    e << SPSC_SEQUENCE_SHIFT | STATE_READY | r
}

/// The end of the extent that `w` publishes at position `h`, if it is valid for `h`.
#[inline(always)]
pub(crate) fn spsc_end(w: u64, h: u64, slots: u64) -> Option<u64> {
    let d = (w.wrapping_sub(h << SPSC_SEQUENCE_SHIFT) as i64 >> SPSC_SEQUENCE_SHIFT) as u64;
    (w & CLASS == STATE_READY && d.wrapping_sub(1) < slots).then(|| h.wrapping_add(d))
}

pub(crate) fn owner(w: u64) -> u32 {
    (w >> OWNER_SHIFT & OWNER_MASK) as u32
}

pub(crate) fn is_ready(w: u64) -> bool {
    w & CLASS == STATE_READY
}

pub(crate) fn is_taken(w: u64) -> bool {
    w & CLASS == STATE_TAKEN
}

pub(crate) fn state_of(w: u64) -> u64 {
    w & 0xFF
}

/// Whether somebody's claim, lease or unfinished release stands there.
pub(crate) fn is_owned(w: u64) -> bool {
    state_of(w) == STATE_CLAIMED || state_of(w) == STATE_DONE || is_taken(w)
}

pub(crate) fn given_back(w: u64) -> u64 {
    w & DELIVERIES_MASK
}

/// The count that a message with `r` give-backs reports; it saturates.
pub(crate) fn deliveries(r: u64) -> u32 {
    r.min(DELIVERIES_WRAP) as u32 + 1
}

/// One more give-back. Beyond the field it returns to a value above 0, so that the word still changes every time.
pub(crate) fn next_given_back(r: u64) -> u64 {
    if r >= DELIVERIES_MASK {
        DELIVERIES_WRAP
    } else {
        r + 1
    }
}

/// `a - b` with its sign: positions are never compared in another way.
#[inline(always)]
pub(crate) fn distance(a: u64, b: u64) -> i64 {
    a.wrapping_sub(b) as i64
}

/// The higher of two positions.
#[inline(always)]
pub(crate) fn later(a: u64, b: u64) -> u64 {
    if distance(a, b) > 0 {
        a
    } else {
        b
    }
}

/// The lower of two positions.
#[inline(always)]
pub(crate) fn earlier(a: u64, b: u64) -> u64 {
    if distance(a, b) < 0 {
        a
    } else {
        b
    }
}

/// Widens the sequence of `w` to the position nearest to `near`.
#[inline(always)]
pub(crate) fn sequence(w: u64, near: u64) -> u64 {
    near.wrapping_add((w.wrapping_sub(near << MPMC_SEQUENCE_SHIFT) as i64 >> MPMC_SEQUENCE_SHIFT) as u64)
}

/// The head position of a word that is not FREE, with end `e`, in the slot of `p`.
#[inline(always)]
pub(crate) fn head(e: u64, p: u64, slots: u64) -> u64 {
    let last = e.wrapping_sub(1);
    last.wrapping_sub(last.wrapping_sub(p) & (slots - 1))
}

/// How a state word relates to a position of its slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stand {
    /// FREE of this position: it is not claimed.
    Free,
    /// The slot is still in use by the lap before: the position is not claimed.
    Old,
    /// Claimed and not committed.
    Claimed,
    /// Committed, and waits.
    Ready,
    /// Leased.
    Taken,
    /// Received; its slots are being given back.
    Done,
    /// Claimed once, and the slot is free again.
    Passed,
    /// No such word can stand there.
    Corrupt,
}

/// Classifies `w` for position `p` of its slot, and returns its sequence as a position.
pub(crate) fn stand(w: u64, p: u64, slots: u64) -> (Stand, u64) {
    let e = sequence(w, p);
    let st = state_of(w);
    if st == STATE_FREE {
        let d = distance(e, p);
        let s = if owner(w) != 0 || d as u64 & (slots - 1) != 0 || d < 0 {
            Stand::Corrupt // FREE of the lap before as well: p - N was never claimed, so p cannot be next
        } else if d == 0 {
            Stand::Free
        } else {
            Stand::Passed
        };
        return (s, e);
    }
    if st != STATE_CLAIMED && st != STATE_DONE && !is_ready(w) && !is_taken(w) {
        return (Stand::Corrupt, e);
    }
    let d = distance(head(e, p, slots), p);
    let s = if d > 0 {
        Stand::Passed
    } else if d == -(slots as i64) {
        Stand::Old
    } else if d < 0 {
        Stand::Corrupt
    } else if st == STATE_CLAIMED {
        Stand::Claimed
    } else if st == STATE_DONE {
        Stand::Done
    } else if is_ready(w) {
        Stand::Ready
    } else {
        Stand::Taken
    };
    (s, e)
}

/// I5: the first position that may still be unclaimed or held, given that `w` stands in the slot of `p` and is passed, with sequence `e`.
pub(crate) fn beyond(w: u64, p: u64, e: u64, slots: u64) -> u64 {
    let claimed = if state_of(w) == STATE_FREE { e.wrapping_sub(slots) } else { head(e, p, slots) };
    later(p.wrapping_add(1), claimed.wrapping_sub(slots).wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: u64 = 8;

    #[test]
    fn words_stand_where_they_were_written() {
        for base in [0, 5, (1 << 44) - 3, (1 << 52) + 1] {
            for p in base..base + N {
                assert_eq!(stand(free_word(p), p, N), (Stand::Free, p));
                assert_eq!(stand(free_word(p + N), p, N), (Stand::Passed, p + N));
                assert_eq!(stand(claimed_word(p + 3, 7), p, N), (Stand::Claimed, p + 3));
                assert_eq!(stand(claimed_word(p + 3, 7), p + N, N), (Stand::Old, p + 3));
                assert_eq!(stand(ready_word(p + 1, 2), p, N), (Stand::Ready, p + 1));
                assert_eq!(stand(taken_word(p + 2, 1, 0), p, N), (Stand::Taken, p + 2));
                assert_eq!(stand(done_word(p + 2, 1), p, N), (Stand::Done, p + 2));
                assert_eq!(stand(ready_word(p + N + 1, 0), p, N), (Stand::Passed, p + N + 1));
                assert_eq!(stand(0, p, N).0, Stand::Corrupt);
                assert_eq!(stand(free_word(p) | 1 << OWNER_SHIFT, p, N).0, Stand::Corrupt);
                assert_eq!(beyond(free_word(p + 2 * N), p, p + 2 * N, N), p + 1);
                assert_eq!(beyond(ready_word(p + 2 * N + 1, 0), p, p + 2 * N + 1, N), p + N + 1);
            }
        }
    }

    #[test]
    fn spsc_words_are_valid_for_one_lap() {
        for h in [0, 3, (1 << 56) - 2, (1 << 60) + 9] {
            assert_eq!(spsc_end(spsc_word(h + 1, 0), h, N), Some(h + 1));
            assert_eq!(spsc_end(spsc_word(h + N, 3), h, N), Some(h + N));
            assert_eq!(spsc_end(spsc_word(h, 0), h, N), None);
            assert_eq!(spsc_end(spsc_word(h + N + 1, 0), h, N), None);
            assert_eq!(spsc_end(spsc_word(h + 1, 0), h + N, N), None);
            assert_eq!(spsc_end(0, h, N), None);
        }
    }

    #[test]
    fn the_count_of_deliveries_saturates_and_the_word_changes() {
        let mut r = 0;
        for _ in 0..100 {
            let next = next_given_back(r);
            assert!(next != r && next > 0 && next <= DELIVERIES_MASK);
            r = next;
        }
        assert_eq!(deliveries(r), 49);
    }
}

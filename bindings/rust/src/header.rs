//! The header of a segment: geometry, reading with every check, writing. `docs/FORMAT.md` sections 2, 3.1 and 4.

use crate::error::{Error, FormatClass, Result};
use crate::hash::xxh64;
use crate::layout::*;

pub(crate) const PAGE: u64 = 4096;
pub(crate) const BACKING_POSIX: u32 = 1;
pub(crate) const BACKING_SYSV: u32 = 2;
pub(crate) const BACKING_MEMFD: u32 = 3;
pub(crate) const KIND_SPSC: u32 = 1;
pub(crate) const KIND_MPMC: u32 = 2;
pub(crate) const POLICY_REDELIVER: u32 = 1;
pub(crate) const POLICY_DROP: u32 = 2;
const ACCOUNT_SIZE: u64 = 8;

/// A private copy of the header. Every field was checked when it came from a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Bit 0: the last receiver removes the ring.
    pub flags: u32,
    /// Bytes of the whole segment.
    pub segment_size: u64,
    /// Identity of the segment.
    pub id: [u8; 16],
    /// Nanoseconds since 1970.
    pub created: u64,
    /// 1 POSIX, 2 System V, 3 memfd.
    pub backing: u32,
    /// 0 none, 1 transparent, 2 2 MiB pages, 3 1 GiB pages.
    pub huge: u32,
    /// 1 SPSC, 2 MPMC.
    pub kind: u32,
    /// 1 redeliver, 2 drop.
    pub policy: u32,
    /// Number of slots, a power of two.
    pub slots: u64,
    /// Payload bytes of one slot.
    pub slot_size: u64,
    /// Bytes from entry to entry.
    pub entry_stride: u32,
    /// Payload bytes that fit into an entry.
    pub inline_size: u32,
    /// Entries in the participant table.
    pub participants: u32,
    /// 0: no limit.
    pub max_deliveries: u32,
    /// Permission bits asked for.
    pub mode: u32,
    /// Where the entries begin.
    pub entries_offset: u64,
    /// Where the accounts of loss begin.
    pub accounts_offset: u64,
    /// Where the payload begins.
    pub data_offset: u64,
    /// System V key, or 0.
    pub sysv_key: u32,
    /// System V id, or 0.
    pub sysv_id: u32,
    /// First position.
    pub start: u64,
    /// For people only.
    pub creator_pid: u32,
}

fn round_up(n: u64, to: u64) -> u64 {
    n.div_ceil(to) * to
}

/// The size that a segment is rounded up to.
pub(crate) fn page_size(huge: u32) -> u64 {
    match huge {
        1 | 2 => 2 << 20,
        3 => 1 << 30,
        _ => PAGE,
    }
}

impl Header {
    /// The first limit of section 2 that is not met: field, value, what is allowed.
    fn limit(&self) -> Option<(&'static str, u64, &'static str)> {
        let bad = |field, got, want| Some((field, got, want));
        if self.kind != KIND_SPSC && self.kind != KIND_MPMC {
            bad("kind", self.kind.into(), "1 (SPSC) or 2 (MPMC)")
        } else if self.policy != POLICY_REDELIVER && self.policy != POLICY_DROP {
            bad("policy", self.policy.into(), "1 (redeliver) or 2 (drop)")
        } else if !(1..=MAX_SLOTS).contains(&self.slots) || !self.slots.is_power_of_two() {
            bad("slots", self.slots, "a power of two, 1 to 2^24")
        } else if !(1..=MAX_SLOT_SIZE).contains(&self.slot_size) {
            bad("slot_size", self.slot_size, "1 to 2^30")
        } else if self.slots * self.slot_size > MAX_DATA_SIZE {
            bad("slot_size", self.slot_size, "slots * slot_size at most 2^40")
        } else if ![16, 32, 64, 128].contains(&self.entry_stride) {
            bad("entry_stride", self.entry_stride.into(), "16, 32, 64 or 128")
        } else if !(1..=MAX_PARTICIPANTS).contains(&u64::from(self.participants)) {
            bad("participants", self.participants.into(), "1 to 4096")
        } else if u64::from(self.max_deliveries) > DELIVERIES_WRAP {
            bad("max_deliveries", self.max_deliveries.into(), "0 to 48")
        } else {
            None
        }
    }

    /// Computes sizes and offsets from the options.
    pub(crate) fn geometry(&mut self) -> Result<()> {
        if let Some((field, _, want)) = self.limit() {
            return Err(Error::Option(field, want));
        }
        self.inline_size = self.entry_stride - ENTRY_SIZE as u32;
        self.entries_offset = round_up(PARTICIPANTS_OFFSET + u64::from(self.participants) * PARTICIPANT_SIZE as u64, PAGE);
        self.accounts_offset = round_up(self.entries_offset + self.slots * u64::from(self.entry_stride), PAGE);
        self.data_offset = round_up(self.accounts_offset + self.slots * ACCOUNT_SIZE, PAGE);
        self.segment_size = round_up(self.data_offset + self.slots * self.slot_size, page_size(self.huge));
        Ok(())
    }

    /// The bytes of the header, not ready.
    pub(crate) fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut b = [0; HEADER_SIZE];
        let mut put = |at: usize, v: &[u8]| b[at..at + v.len()].copy_from_slice(v);
        put(HEADER_MAGIC, &MAGIC);
        put(HEADER_ID, &self.id);
        for (at, v) in [
            (HEADER_BYTE_ORDER, BYTE_ORDER),
            (HEADER_VERSION, VERSION),
            (HEADER_HEADER_SIZE, HEADER_SIZE as u32),
            (HEADER_FLAGS, self.flags),
            (HEADER_BACKING, self.backing),
            (HEADER_HUGE, self.huge),
            (HEADER_KIND, self.kind),
            (HEADER_POLICY, self.policy),
            (HEADER_ENTRY_STRIDE, self.entry_stride),
            (HEADER_INLINE_SIZE, self.inline_size),
            (HEADER_PARTICIPANTS, self.participants),
            (HEADER_PARTICIPANT_STRIDE, PARTICIPANT_SIZE as u32),
            (HEADER_MAX_DELIVERIES, self.max_deliveries),
            (HEADER_MODE, self.mode),
            (HEADER_SYSV_KEY, self.sysv_key),
            (HEADER_SYSV_ID, self.sysv_id),
            (HEADER_CREATOR_PID, self.creator_pid),
        ] {
            put(at, &v.to_le_bytes());
        }
        for (at, v) in [
            (HEADER_LAYOUT, FINGERPRINT),
            (HEADER_SEGMENT_SIZE, self.segment_size),
            (HEADER_CREATED, self.created),
            (HEADER_SLOTS, self.slots),
            (HEADER_SLOT_SIZE, self.slot_size),
            (HEADER_PARTICIPANTS_OFFSET, PARTICIPANTS_OFFSET),
            (HEADER_ENTRIES_OFFSET, self.entries_offset),
            (HEADER_ACCOUNTS_OFFSET, self.accounts_offset),
            (HEADER_DATA_OFFSET, self.data_offset),
            (HEADER_START, self.start),
        ] {
            put(at, &v.to_le_bytes());
        }
        let sum = xxh64(&b[..HEADER_CHECKSUM]);
        b[HEADER_CHECKSUM..HEADER_CHECKSUM + 8].copy_from_slice(&sum.to_le_bytes());
        b
    }

    /// Reads the header of a file of `size` bytes whose beginning is `b`, and checks all of it.
    pub(crate) fn decode(b: &[u8], size: u64) -> Result<Header> {
        use FormatClass::*;
        let bad = |class, field, got, want| Err(Error::format(class, field, got, want));
        let have = size.min(b.len() as u64);
        if have < HEADER_SIZE as u64 {
            return bad(NotSegment, "file size", have, Some(HEADER_SIZE as u64));
        }
        let u32_at = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let identity = [
            (NotSegment, "magic", u64_at(HEADER_MAGIC), u64::from_le_bytes(MAGIC)),
            (ByteOrder, "byte_order", u32_at(HEADER_BYTE_ORDER).into(), BYTE_ORDER.into()),
            (Version, "version", u32_at(HEADER_VERSION).into(), VERSION.into()),
            (Layout, "layout", u64_at(HEADER_LAYOUT), FINGERPRINT),
            (Corrupt, "checksum", u64_at(HEADER_CHECKSUM), xxh64(&b[..HEADER_CHECKSUM])),
            (Corrupt, "ready", u32_at(HEADER_READY).into(), 1),
        ];
        for (class, field, got, want) in identity {
            if got != want {
                return bad(class, field, got, Some(want));
            }
        }
        let mut h = Header {
            flags: u32_at(HEADER_FLAGS),
            segment_size: u64_at(HEADER_SEGMENT_SIZE),
            created: u64_at(HEADER_CREATED),
            backing: u32_at(HEADER_BACKING),
            huge: u32_at(HEADER_HUGE),
            kind: u32_at(HEADER_KIND),
            policy: u32_at(HEADER_POLICY),
            slots: u64_at(HEADER_SLOTS),
            slot_size: u64_at(HEADER_SLOT_SIZE),
            entry_stride: u32_at(HEADER_ENTRY_STRIDE),
            participants: u32_at(HEADER_PARTICIPANTS),
            max_deliveries: u32_at(HEADER_MAX_DELIVERIES),
            mode: u32_at(HEADER_MODE),
            sysv_key: u32_at(HEADER_SYSV_KEY),
            sysv_id: u32_at(HEADER_SYSV_ID),
            start: u64_at(HEADER_START),
            creator_pid: u32_at(HEADER_CREATOR_PID),
            ..Header::default()
        };
        h.id.copy_from_slice(&b[HEADER_ID..HEADER_ID + 16]);
        if let Some((field, got, _)) = h.limit() {
            return bad(Corrupt, field, got, None);
        }
        let choices = [
            ("flags", h.flags, u64::from(h.flags) & !HEADER_FLAG_TEMPORARY == 0),
            ("backing", h.backing, (BACKING_POSIX..=BACKING_MEMFD).contains(&h.backing)),
            ("huge", h.huge, h.huge <= 3),
            ("mode", h.mode, h.mode & !0o777 == 0),
        ];
        for (field, got, ok) in choices {
            if !ok {
                return bad(Corrupt, field, got.into(), None);
            }
        }
        for x in &b[HEADER_CREATOR_PID + 4..HEADER_CHECKSUM] {
            if *x != 0 {
                return bad(Corrupt, "reserved byte", (*x).into(), Some(0));
            }
        }
        h.geometry()?;
        let computed = [
            ("header_size", u32_at(HEADER_HEADER_SIZE).into(), HEADER_SIZE as u64),
            ("inline_size", u32_at(HEADER_INLINE_SIZE).into(), h.inline_size.into()),
            ("participant_stride", u32_at(HEADER_PARTICIPANT_STRIDE).into(), PARTICIPANT_SIZE as u64),
            ("participants_offset", u64_at(HEADER_PARTICIPANTS_OFFSET), PARTICIPANTS_OFFSET),
            ("entries_offset", u64_at(HEADER_ENTRIES_OFFSET), h.entries_offset),
            ("accounts_offset", u64_at(HEADER_ACCOUNTS_OFFSET), h.accounts_offset),
            ("data_offset", u64_at(HEADER_DATA_OFFSET), h.data_offset),
            ("segment_size", u64_at(HEADER_SEGMENT_SIZE), h.segment_size),
        ];
        for (field, got, want) in computed {
            if got != want {
                return bad(Layout, field, got, Some(want));
            }
        }
        if h.backing != BACKING_SYSV && size < h.segment_size {
            return bad(Corrupt, "file size", size, Some(h.segment_size));
        }
        Ok(h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> Header {
        let mut h = Header {
            kind: KIND_MPMC,
            policy: POLICY_DROP,
            slots: 8,
            slot_size: 100,
            entry_stride: 64,
            participants: 33,
            max_deliveries: 3,
            backing: BACKING_POSIX,
            mode: 0o640,
            start: 7,
            ..Header::default()
        };
        h.geometry().unwrap();
        h
    }

    fn ready(h: &Header) -> [u8; HEADER_SIZE] {
        let mut b = h.encode();
        b[HEADER_READY] = 1;
        b
    }

    #[test]
    fn decode_returns_what_was_encoded() {
        let h = sound();
        assert_eq!(Header::decode(&ready(&h), h.segment_size).unwrap(), h);
        assert_eq!((h.entries_offset, h.accounts_offset, h.data_offset, h.segment_size), (16384, 20480, 24576, 28672));
    }

    #[test]
    fn every_flipped_byte_of_the_checked_part_is_refused() {
        let h = sound();
        let b = ready(&h);
        for at in 0..HEADER_READY + 4 {
            let mut c = b;
            c[at] ^= 0x40;
            assert!(Header::decode(&c, h.segment_size).is_err(), "byte {at}");
        }
        assert!(Header::decode(&b, h.segment_size - 1).is_err());
        assert!(Header::decode(&b[..100], 100).is_err());
    }
}

//! The memory of a ring, with private copies of everything that is immutable: what another process writes into the header later cannot move
//! an index out of range.

use std::sync::atomic::AtomicU64;

use crate::event::Event;
use crate::header::{Header, KIND_SPSC, POLICY_DROP};
use crate::layout::*;
use crate::order;
use crate::segment::Mapping;
use crate::word::free_word;
use crate::Role;

/// Where a ring lies, and its options. Copies stay valid as long as the mapping.
#[derive(Clone, Copy)]
pub(crate) struct Core {
    entries: *mut u8,
    data: *mut u8,
    ctl: *const Control,
    accounts: *const AtomicU64,
    table: *const Participant,
    pub(crate) slots: u64,
    mask: u64,
    pub(crate) slot_size: u64,
    stride_shift: u32,
    pub(crate) inline: u64, // payload bytes that lie in an entry
    pub(crate) spsc: bool,
    pub(crate) drop_policy: bool,
    pub(crate) participants: u32,
    pub(crate) max_slots: u64, // slots that one message or one part of a batch may take
    pub(crate) max_message: u64,
    pub(crate) max_steps: u64, // bound on the steps of one call, section 14
    pub(crate) max_deliveries: u64,
    pub(crate) start: u64,
}

// SAFETY: the pointers lead to memory that is shared by its nature; everything but payload is atomic, and payload has one owner at a time.
unsafe impl Send for Core {}
unsafe impl Sync for Core {}

/// Where payload lies. Only made for ranges inside the data area or an entry.
#[derive(Clone, Copy)]
pub(crate) struct Payload {
    pub(crate) at: *mut u8,
    pub(crate) len: u64,
}

impl Core {
    /// Casts a mapping whose header was checked against its size.
    pub(crate) fn new(map: &Mapping, h: &Header) -> Core {
        let base = map.base();
        let max_slots = (h.slots / 2).max(1);
        // SAFETY: the header was checked: all areas lie inside the mapping, and are aligned.
        let at = |offset: u64| unsafe { base.add(offset as usize) };
        Core {
            entries: at(h.entries_offset),
            data: at(h.data_offset),
            ctl: at(CONTROL_OFFSET).cast(),
            accounts: at(h.accounts_offset).cast(),
            table: at(PARTICIPANTS_OFFSET).cast(),
            slots: h.slots,
            mask: h.slots - 1,
            slot_size: h.slot_size,
            stride_shift: h.entry_stride.trailing_zeros(),
            inline: u64::from(h.inline_size).min(h.slot_size), // only messages of one slot lie inline
            spsc: h.kind == KIND_SPSC,
            drop_policy: h.policy == POLICY_DROP,
            participants: h.participants,
            max_slots,
            max_message: max_slots * h.slot_size,
            max_steps: 64 * h.slots + 65536,
            max_deliveries: h.max_deliveries.into(),
            start: h.start,
        }
    }

    #[inline(always)]
    pub(crate) fn ctl(&self) -> &Control {
        // SAFETY: see `new`.
        unsafe { &*self.ctl }
    }

    #[inline(always)]
    pub(crate) fn not_empty(&self) -> Event<'_> {
        Event(&self.ctl().not_empty)
    }

    #[inline(always)]
    pub(crate) fn not_full(&self) -> Event<'_> {
        Event(&self.ctl().not_full)
    }

    #[inline(always)]
    pub(crate) fn entry(&self, p: u64) -> &Entry {
        // SAFETY: the index is masked, so the entry lies in the area.
        unsafe { &*self.entries.add(((p & self.mask) << self.stride_shift) as usize).cast() }
    }

    #[inline(always)]
    pub(crate) fn state(&self, p: u64) -> &AtomicU64 {
        &self.entry(p).state
    }

    pub(crate) fn account(&self, p: u64) -> &AtomicU64 {
        // SAFETY: the index is masked.
        unsafe { &*self.accounts.add((p & self.mask) as usize) }
    }

    /// The entry of a participant below `participants`.
    pub(crate) fn participant(&self, id: u32) -> &Participant {
        assert!(id < self.participants);
        // SAFETY: just checked.
        unsafe { &*self.table.add(id as usize) }
    }

    #[inline(always)]
    fn cell(&self, p: u64) -> *mut u8 {
        // SAFETY: the index is masked.
        unsafe { self.data.add(((p & self.mask) * self.slot_size) as usize) }
    }

    #[inline(always)]
    fn inside(&self, p: u64) -> *mut u8 {
        // SAFETY: the index is masked, and inline payload follows the words of an entry.
        unsafe { self.entries.add(((p & self.mask) << self.stride_shift) as usize + ENTRY_SIZE) }
    }

    /// How many slots `n` bytes take.
    #[inline(always)]
    pub(crate) fn slots_for(&self, n: u64) -> u64 {
        if n <= self.slot_size {
            1
        } else {
            n.div_ceil(self.slot_size)
        }
    }

    /// How many slots must be stepped over so that `k` slots from `t` on do not wrap.
    #[inline(always)]
    pub(crate) fn pad(&self, t: u64, k: u64) -> u64 {
        let left = self.slots - (t & self.mask);
        if k > left {
            left
        } else {
            0
        }
    }

    /// Where `n` bytes of a message at `p` go, and its length word. They fit into slots that do not wrap.
    #[inline(always)]
    pub(crate) fn place(&self, p: u64, n: u64) -> (Payload, u64) {
        if n <= self.inline {
            (Payload { at: self.inside(p), len: n }, n | FLAG_INLINE)
        } else {
            (Payload { at: self.cell(p), len: n }, n)
        }
    }

    /// The data cell of `p` for `n` bytes, at most `slot_size`.
    #[inline(always)]
    pub(crate) fn cell_for(&self, p: u64, n: u64) -> Payload {
        Payload { at: self.cell(p), len: n }
    }

    /// The payload of the message at `p` that takes `k` slots, from its length word; None when that cannot be true.
    #[inline]
    pub(crate) fn payload(&self, p: u64, k: u64, length: u64) -> Option<Payload> {
        let n = length & LENGTH_MASK;
        match length & !LENGTH_MASK {
            0 => {
                let fits = k != 0 && k <= self.max_slots && n <= k * self.slot_size && (p & self.mask) + k <= self.slots;
                (fits && (k == 1 || n > (k - 1) * self.slot_size)).then(|| Payload { at: self.cell(p), len: n })
            }
            FLAG_INLINE => (k == 1 && n <= self.inline).then(|| Payload { at: self.inside(p), len: n }),
            _ => None,
        }
    }

    /// `payload` for a message of one slot.
    #[inline(always)]
    pub(crate) fn single(&self, p: u64, length: u64) -> Option<Payload> {
        let n = length & !FLAG_INLINE;
        if n == length {
            (n <= self.slot_size).then(|| Payload { at: self.cell(p), len: n })
        } else {
            (n <= self.inline).then(|| Payload { at: self.inside(p), len: n })
        }
    }

    /// A position that a hint names, if ordinary traffic can reach it from `p`; otherwise `p`: a hint is input.
    #[inline]
    pub(crate) fn hint(&self, h: u64, p: u64) -> u64 {
        if h.wrapping_sub(p) < 1 << 40 {
            h
        } else {
            p
        }
    }

    /// The lowest position that can be in use when `next` is the next to claim.
    pub(crate) fn oldest(&self, next: u64) -> u64 {
        crate::word::later(next.wrapping_sub(self.slots), self.start)
    }
}

impl Payload {
    /// Copies `from` in. The caller owns the slots, and `from` is as long as the payload.
    #[inline(always)]
    pub(crate) fn put(self, from: &[u8]) {
        debug_assert_eq!(self.len, from.len() as u64);
        // SAFETY: `at` has room for `len` bytes, as all who make a Payload make sure; the claim keeps everybody else out.
        unsafe { copy(from.as_ptr(), self.at, from.len()) }
    }

    /// Copies the payload to the front of `to`; None when it is too small.
    ///
    /// Of an MPMC message that is not taken yet another process may be overwriting these bytes: then the CAS that follows fails, and the copy
    /// is thrown away. It is plain bytes, any value of which is valid.
    #[inline(always)]
    pub(crate) fn get(self, to: &mut [u8]) -> Option<usize> {
        let n = self.len as usize;
        if n > to.len() {
            return None;
        }
        // SAFETY: `at` has `len` bytes, and `to` is long enough.
        unsafe { copy(self.at, to.as_mut_ptr(), n) }
        Some(n)
    }

    /// The payload as a slice. The caller sees to it that the lease outlives `'a`.
    ///
    /// # Safety
    /// The slots are leased or reserved for `'a`.
    pub(crate) unsafe fn slice<'a>(self) -> &'a [u8] {
        std::slice::from_raw_parts(self.at, self.len as usize)
    }

    /// The payload as a slice to be filled.
    ///
    /// # Safety
    /// The slots are reserved for `'a`, and nobody else makes a slice of them.
    pub(crate) unsafe fn slice_mut<'a>(self) -> &'a mut [u8] {
        std::slice::from_raw_parts_mut(self.at, self.len as usize)
    }
}

/// memcpy, without the call for small sizes: two loads and two stores that may overlap.
///
/// # Safety
/// As for `copy_nonoverlapping`.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, n: usize) {
    macro_rules! ends {
        ($t:ty) => {{
            let w = std::mem::size_of::<$t>();
            let a = from.cast::<$t>().read_unaligned();
            let b = from.add(n - w).cast::<$t>().read_unaligned();
            to.cast::<$t>().write_unaligned(a);
            to.add(n - w).cast::<$t>().write_unaligned(b);
        }};
    }
    match n {
        4..=7 => ends!(u32),
        8..=16 => ends!(u64),
        17..=32 => ends!([u64; 2]),
        33..=64 => ends!([u64; 4]),
        n if n > LONG => copy_parts(from, to, n),
        _ => std::ptr::copy_nonoverlapping(from, to, n),
    }
}

/// More bytes than this are copied in parts. The library's memcpy is for memory that one processor uses: from some kilobytes
/// on it may use an instruction of the processor for strings, and from a MiB on stores that pass the caches; both are slow for lines that another
/// core has, or wants next.
const LONG: usize = 8192;

/// How many bytes of them at once.
const PART: usize = 31 * 64;

/// Copies more than `LONG` bytes.
///
/// # Safety
/// As for `copy_nonoverlapping`.
#[inline(never)]
unsafe fn copy_parts(from: *const u8, to: *mut u8, n: usize) {
    let mut at = 0;
    while n - at > PART {
        std::ptr::copy_nonoverlapping(from.add(at), to.add(at), std::hint::black_box(PART)); // nor may the compiler see that all of it is one memcpy
        at += PART;
    }
    std::ptr::copy_nonoverlapping(from.add(at), to.add(at), n - at);
}

/// Writes the words of a new ring. The memory is zero and nobody else sees it yet. F0: `ready` publishes all of it.
pub(crate) fn initialise(map: &Mapping, h: &Header) {
    let c = Core::new(map, h);
    let ctl = c.ctl();
    for word in [&ctl.producer_position, &ctl.consumer_position, &ctl.lease_end, &ctl.space_position, &ctl.run_end] {
        order::write(word, h.start);
    }
    if c.spsc {
        return;
    }
    for i in 0..h.slots {
        let p = h.start.wrapping_add(i);
        order::write(c.state(p), free_word(p));
    }
}

/// What became of one id in one role.
pub(crate) struct Session<'a> {
    pub(crate) registered: &'a std::sync::atomic::AtomicU32,
    pub(crate) closed: &'a std::sync::atomic::AtomicU32,
    pub(crate) died: &'a std::sync::atomic::AtomicU32,
}

impl Session<'_> {
    /// Whether it is begun and neither closed nor retired. Values that fit no history count as not open.
    pub(crate) fn open(&self) -> bool {
        let [registered, closed, died] = [self.registered, self.closed, self.died].map(order::load); // X5
        registered.wrapping_sub(closed).wrapping_sub(died) == 1
    }

    pub(crate) fn ever(&self) -> u32 {
        order::load(self.registered) // X5
    }
}

impl Participant {
    pub(crate) fn session(&self, role: Role) -> Session<'_> {
        match role {
            Role::Producer => Session { registered: &self.producer_registered, closed: &self.producer_closed, died: &self.producer_died },
            Role::Consumer => Session { registered: &self.consumer_registered, closed: &self.consumer_closed, died: &self.consumer_died },
        }
    }

    /// Whether anybody is registered here.
    pub(crate) fn open(&self) -> bool {
        self.session(Role::Producer).open() || self.session(Role::Consumer).open()
    }
}

//! Leases: messages that a consumer has taken and not yet released. They are released from the front.

use crate::core::Payload;

/// One leased message: its positions, payload, and how often it was given back before.
#[derive(Clone, Copy)]
pub(crate) struct Item {
    pub(crate) p: u64,
    pub(crate) e: u64,
    pub(crate) payload: Payload,
    pub(crate) given: u64,
}

/// What a consumer holds: the messages next .. count-1 of those that it was taken with.
pub(crate) struct Lease {
    pub(crate) next: usize,
    pub(crate) count: usize,
    pub(crate) again: u64, // messages that were given back before
    pub(crate) run: bool,  // SPSC: the messages follow each other in one run, and only the first is an item
    items: Vec<Item>,
    pub(crate) shared: bool, // MPMC: all items are in one extent, whose word is the first one's; otherwise each has its own
    pub(crate) end: u64,     // MPMC: end of that extent
}

impl Lease {
    pub(crate) fn new() -> Lease {
        Lease { next: 0, count: 0, again: 0, run: false, items: Vec::with_capacity(1), shared: false, end: 0 }
    }

    #[inline]
    pub(crate) fn open(&self) -> bool {
        self.next < self.count
    }

    /// Makes room for `limit` messages, so that nothing is allocated while words are changed.
    #[inline]
    pub(crate) fn make_room(&mut self, limit: usize) {
        if self.items.capacity() < limit {
            self.items.clear();
            self.items.reserve(limit);
        }
    }

    /// Starts anew with no message.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        (self.next, self.count, self.again, self.run, self.shared) = (0, 0, 0, false, false);
    }

    /// Starts anew with one message.
    #[inline]
    pub(crate) fn begin(&mut self, it: Item) {
        self.clear();
        self.add(it);
    }

    /// Starts anew with `count` messages of a run.
    #[inline]
    pub(crate) fn begin_run(&mut self, first: Item, count: usize) {
        self.begin(first);
        (self.count, self.run) = (count, true);
    }

    #[inline]
    pub(crate) fn add(&mut self, it: Item) {
        self.again += u64::from(it.given > 0);
        self.items.push(it);
        self.count += 1;
    }

    #[inline]
    pub(crate) fn at(&self, i: usize) -> Item {
        self.items[i]
    }
}

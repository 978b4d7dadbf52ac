package io.millrace;

/** What a new holder of an SPSC role does with what its predecessor left. The caller holds the role's lock. */
final class SpscSuccession {
    private SpscSuccession() {
    }

    /** Finds the end of what was published, and publishes an abandoned reservation as skipped. */
    static void producer(Segment.Core core) {
        Memory memory = core.memory;
        Ring ring = core.ring;
        long t = memory.getLongAcquire(Format.PRODUCER_POSITION);
        for (long steps = 0; ; steps++) {
            long e = Words.spscEnd(ring.state(t), t, ring.slots);
            if (e == t) {
                break;
            }
            if (steps > 2 * ring.slots) {
                throw ring.corrupt("chain of extents", t);
            }
            t = e;
        }
        if (memory.getLong(Format.RESERVED_POSITION) == t + 1) {
            core.table.count(ring, t, ring.state(t), false);
            ring.setLengthWord(t, Format.PAD | Format.SKIP);
            ring.setState(t, Words.spscReady(t + 1, 0));
            t++;
        }
        memory.setLong(Format.RESERVED_POSITION, 0);
        memory.setLongRelease(Format.PRODUCER_POSITION, t);
    }

    /** Gives back, or counts as lost, what is leased, and gives free space back. */
    static void consumer(Segment.Core core, boolean drop) {
        Memory memory = core.memory;
        long h = memory.getLongAcquire(Format.CONSUMER_POSITION);
        memory.setLongRelease(Format.SPACE_POSITION, h);
        long end = memory.getLongAcquire(Format.LEASE_END);
        if (end - h > 0) {
            if (end - h > core.ring.slots) {
                throw core.ring.corrupt("end of the lease", h);
            }
            splitRuns(core, h, end);
            if (drop) {
                lose(core, h, end);
                memory.setLongRelease(Format.CONSUMER_POSITION, end);
                memory.setLongRelease(Format.SPACE_POSITION, end);
            } else {
                redeliver(core, h, end);
                memory.setLongRelease(Format.LEASE_END, h);
            }
        }
        memory.setLongRelease(Format.JOURNAL, 0);
    }

    private static void splitRuns(Segment.Core core, long h, long end) {
        Ring ring = core.ring;
        for (long x = h; end - x > 0; ) {
            long w = ring.state(x);
            long e = Words.spscEnd(w, x, ring.slots);
            if (e != x && (ring.lengthWord(x) & Format.RUN) == 0) {
                x = e;
                continue;
            }
            long bytes;
            if (e != x) {
                bytes = ring.lengthWord(x) & Format.LENGTH_MASK;
                single(ring, x + 1, e, bytes);
                ring.setState(x, Words.spscReady(x + 1, Words.deliveries(w)));
                ring.setLengthWord(x, bytes);
            } else {
                e = core.memory.getLongAcquire(Format.RUN_END);
                if (e - x <= 0 || e - x > ring.slots) {
                    throw ring.corrupt("leased message", x);
                }
                bytes = core.memory.getLong(Format.RUN_LENGTH);
                single(ring, x, e, bytes);
            }
            if (ring.slotsFor(bytes) != 1) {
                throw ring.corrupt("length of a run", x);
            }
            x = e;
        }
    }

    /** Gives each of {@code [from, to)} a word of its own, the last first. */
    private static void single(Ring ring, long from, long to, long bytes) {
        for (long x = to - 1; x - from >= 0; x--) {
            ring.setLengthWord(x, bytes);
            ring.setState(x, Words.spscReady(x + 1, 0));
        }
    }

    private static void lose(Segment.Core core, long h, long end) {
        Ring ring = core.ring;
        for (long x = h; end - x > 0; ) {
            long w = ring.state(x);
            long e = extent(ring, w, x);
            if ((ring.lengthWord(x) & Format.PAD) == 0 && !exhausted(core, w)) {
                core.table.count(ring, x, w, true);
            }
            x = e;
        }
    }

    private static void redeliver(Segment.Core core, long h, long end) {
        Ring ring = core.ring;
        Memory memory = core.memory;
        int max = core.header.maxDeliveries();
        long journal = memory.getLongAcquire(Format.JOURNAL);
        long named = h + ((journal >>> 8) - h << 8 >> 8);
        for (long x = h; end - x > 0; ) {
            long w = ring.state(x);
            long e = extent(ring, w, x);
            boolean message = (ring.lengthWord(x) & Format.PAD) == 0;
            boolean before = journal != 0 && x - named < 0;
            boolean counted = journal != 0 && x == named;
            if (message && !before && (counted || !exhausted(core, w))) {
                int r = counted ? (int) journal & Format.DELIVERIES_MASK : Format.nextDelivery(Words.deliveries(w));
                memory.setLongRelease(Format.JOURNAL, x << 8 | r);
                if (max > 0 && r >= max) {
                    core.table.count(ring, x, w, true);
                }
                ring.setState(x, Words.spscReady(e, r));
            }
            x = e;
        }
    }

    /** Whether the message was counted as lost before, and is only waiting to be stepped over. */
    static boolean exhausted(Segment.Core core, long word) {
        int max = core.header.maxDeliveries();
        return max > 0 && Words.deliveries(word) >= max;
    }

    private static long extent(Ring ring, long word, long x) {
        long e = Words.spscEnd(word, x, ring.slots);
        if (e == x) {
            throw ring.corrupt("leased message", x);
        }
        return e;
    }
}

package io.millrace;


/**
 * What an observer counts. Sessions that are open and dead count as died, but only a participant can tell the dead from the
 * living: somebody who only looks must not take locks, so {@code dead} is what was retired.
 */
public record Snapshot(long producerPosition, long consumerPosition, long used, long sent, long received,
                       long redelivered, long lost, long skipped, long padding, long discarded, long recoveries,
                       long producersEver, long producersOpen, long producersDied,
                       long consumersEver, long consumersOpen, long consumersDied) {

    static Snapshot take(Segment.Core core) {
        Table t = core.table;
        long producer = producerPosition(core);
        long consumer = consumerPosition(core, producer);
        long[] p = sessions(t, true);
        long[] c = sessions(t, false);
        return new Snapshot(producer, consumer, used(core, producer, consumer), t.sum(Format.SENT), t.sum(Format.RECEIVED),
                t.sum(Format.REDELIVERED), t.lost(), t.skipped(), t.sum(Format.PADDING), t.sum(Format.DISCARDED),
                core.memory.getLongVolatile(Format.RECOVERIES), p[0], p[1], p[2], c[0], c[1], c[2]);
    }

    private static long[] sessions(Table t, boolean producer) {
        long ever = 0;
        long open = 0;
        long died = 0;
        for (int id = 0; id < t.size; id++) {
            ever += Integer.toUnsignedLong(t.getInt(id,
                    producer ? Format.PRODUCER_REGISTERED : Format.CONSUMER_REGISTERED));
            died += Integer.toUnsignedLong(t.getInt(id, producer ? Format.PRODUCER_DIED : Format.CONSUMER_DIED));
            open += (producer ? t.producerOpen(id) : t.consumerOpen(id)) ? 1 : 0;
        }
        return new long[] {ever, open, died};
    }

    private static long producerPosition(Segment.Core core) {
        Ring ring = core.ring;
        long t = core.memory.getLongAcquire(Format.PRODUCER_POSITION);
        for (long steps = 0; steps <= 2 * ring.slots; steps++) {
            long w = ring.state(t);
            if (ring.header.spsc()) {
                long e = Words.spscEnd(w, t, ring.slots);
                if (e == t) {
                    break;
                }
                t = e;
            } else {
                long h = Words.head(w, t, t, ring.mask);
                if (h == t && Words.state(w) != Format.FREE) {
                    t = Words.sequence(w, t);
                } else if (h - t > 0) {
                    t = beyond(ring, w, t, h);
                } else {
                    break;
                }
            }
        }
        return t;
    }

    /** The first position that may still be unclaimed or held when the word of {@code p} has passed it; a hint may lag by laps. I5. */
    private static long beyond(Ring ring, long w, long p, long head) {
        long used = Words.state(w) == Format.FREE ? head - ring.slots : head;
        return Math.max(p + 1 - used, 1 - ring.slots) + used;
    }

    private static long consumerPosition(Segment.Core core, long producer) {
        Ring ring = core.ring;
        long p = core.memory.getLongAcquire(Format.CONSUMER_POSITION);
        if (ring.header.spsc()) {
            return p;
        }
        while (producer - p > 0) {
            long w = ring.state(p);
            long h = Words.head(w, p, p, ring.mask);
            int state = Words.state(w);
            if (h - p > 0) {
                p = beyond(ring, w, p, h);
            } else if (h == p && (state == Format.TAKEN || state == Format.DONE)) {
                p = Words.sequence(w, p);
            } else {
                break;
            }
        }
        return p;
    }

    /** Slots that are claimed, hold a message, or have not been given back yet. */
    private static long used(Segment.Core core, long producer, long consumer) {
        Ring ring = core.ring;
        if (ring.header.spsc()) {
            return producer - consumer;
        }
        long used = 0;
        for (long x = producer - ring.slots; producer - x > 0; ) {
            long w = ring.state(x);
            long next = x + 1;
            if (Words.state(w) != Format.FREE && Words.head(w, x, x, ring.mask) == x) {
                next = Words.sequence(w, x);
            }
            used += w == Words.free(x + ring.slots) ? 0 : next - x;
            x = next;
        }
        return used;
    }

}

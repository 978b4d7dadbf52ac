package io.millrace;

import java.nio.ByteBuffer;
import java.util.List;

/** Producer of an MPMC ring. */
final class MpmcProducer extends Producer {
    /** Private candidate: every position below it has been claimed. */
    private long own;
    private long claimed;
    private long padding;

    MpmcProducer(Segment.Core core, Participant me) {
        super(core, me);
        own = core.header.start();
    }

    private long hint() {
        return memory.getLongAcquire(Format.PRODUCER_POSITION);
    }

    private static long later(long a, long b) {
        return a - b > 0 ? a : b;
    }

    /** Finds the next position; P0 and P1. False when the slot there is still in use. */
    private boolean walk() {
        long t = later(own, hint());
        for (long steps = maxSteps(); steps > 0; steps--) {
            long w = ring.state(t);
            long h = Words.head(w, t, t, ring.mask);
            int state = Words.state(w);
            if (state == 0 || (h - t & ring.mask) != 0) {
                throw ring.corrupt("state word", t);
            }
            if (h == t) {
                own = t;
                if (state == Format.FREE) {
                    return true;
                }
                t = Words.sequence(w, t);
            } else if (h - t > 0) {
                long c = state == Format.FREE ? h - ring.slots : h;
                t = later(later(t + 1, c - ring.slots + 1), hint());
            } else if (h + ring.slots == t) {
                own = t;
                blockedBy(state == Format.FREE || state == Format.READY ? 0 : w);
                return false;
            } else {
                throw ring.corrupt("state word", t);
            }
        }
        throw ring.corrupt("endless walk", t);
    }

    /** Where an extent ends that starts at a position. */
    private interface Extent {
        long end(long start);
    }

    /** Claims {@code k} slots and the padding before them. */
    private boolean take(long k) {
        if (!take(t -> t + ring.paddingFor(t, k) + k)) {
            return false;
        }
        padding = own - claimed - k;
        return true;
    }

    /** Claims an extent; P0 to P3. */
    private boolean take(Extent extent) {
        for (long steps = maxSteps(); steps > 0; steps--) {
            if (!walk()) {
                return false;
            }
            long t = own;
            long e = extent.end(t);
            if (e - t > ring.slots) {
                return false;
            }
            long q = t + 1;
            while (q != e && ring.state(q) == Words.free(q)) {
                q++;
            }
            if (q != e) {
                if (ring.state(t) == Words.free(t)) {
                    return false;
                }
            } else if (ring.casState(t, Words.free(t), Words.claimed(e, me.id))) {
                own = e;
                claimed = t;
                return true;
            }
        }
        throw ring.corrupt("endless claim", own);
    }

    /** Publishes {@code [m, e)} of the extent that starts with {@code pad} slots at {@code t}; P5 to P7. */
    private void publish(long t, long m, long e) {
        if (m == t) {
            ring.setState(t, Words.ready(e, 0));
        } else {
            ring.setState(m, Words.ready(e, 0));
            free(t, m);
            me.count(Format.PADDING, m - t);
        }
        passed(t);
        me.count(Format.SENT, 1);
    }

    private void free(long from, long to) {
        for (long q = to - 1; q - from >= 0; q--) {
            ring.setState(q, Words.free(q + ring.slots));
        }
    }

    private void passed(long t) {
        if (ring.hintDue(t, own) && own - hint() > 0) {
            memory.setLong(Format.PRODUCER_POSITION, own);
        }
    }

    @Override
    boolean put(ByteBuffer message) {
        if (!take(ring.slotsFor(message.remaining()))) {
            return false;
        }
        long m = claimed + padding;
        ring.write(m, message);
        publish(claimed, m, own);
        return true;
    }

    @Override
    boolean putAll(List<byte[]> messages) {
        if (!take(t -> layOut(t, messages, null))) {
            return false;
        }
        long t = claimed;
        long[] heads = new long[messages.size()];
        layOut(t, messages, heads);
        for (int i = 0; i < heads.length; i++) {
            ring.write(heads[i], ByteBuffer.wrap(messages.get(i)));
        }
        long next = own;
        long padded = 0;
        for (int i = heads.length - 1; i >= 0; i--) {
            long e = heads[i] + ring.slotsFor(messages.get(i).length);
            free(e, next);
            padded += next - e;
            next = heads[i];
            ring.setState(next, Words.ready(e, 0));
        }
        free(t, next);
        padded += next - t;
        passed(t);
        me.count(Format.PADDING, padded);
        me.count(Format.SENT, heads.length);
        return true;
    }

    /** Places messages from {@code t} on; returns the end of the last. */
    private long layOut(long t, List<byte[]> messages, long[] heads) {
        long at = t;
        for (int i = 0; i < messages.size(); i++) {
            long k = ring.slotsFor(messages.get(i).length);
            at += ring.paddingFor(at, k);
            if (heads != null) {
                heads[i] = at;
            }
            at += k;
        }
        return at;
    }

    @Override
    Reservation claim(int size) {
        if (!take(ring.slotsFor(size))) {
            return null;
        }
        long m = claimed + padding;
        me.hold(claimed);
        return new Reservation(this, claimed, m, own, ring.lengthFor(size), size);
    }

    @Override
    void commit(Reservation r, int bytes) {
        long e = r.position + ring.slotsFor(bytes);
        free(e, r.end);
        ring.setLengthWord(r.position, r.word & ~Format.LENGTH_MASK | bytes);
        publish(r.claim, r.position, e);
        reservation = null;
        me.holdNothing();
    }

    @Override
    void discard(Reservation r) {
        free(r.claim, r.end);
        passed(r.claim);
        reservation = null;
        me.holdNothing();
        me.count(Format.DISCARDED, 1);
    }
}

package io.millrace;

import java.nio.ByteBuffer;
import java.util.List;

/** Producer of an SPSC ring. */
final class SpscProducer extends Producer {
    /** Next position to publish. */
    private long next;
    /** Everything below has been given back. */
    private long limit;

    SpscProducer(Segment.Core core, Participant me) {
        super(core, me);
        try {
            SpscSuccession.producer(core);
        } catch (RuntimeException e) {
            me.close();
            throw e;
        }
        next = memory.getLongAcquire(Format.PRODUCER_POSITION);
        limit = memory.getLongAcquire(Format.SPACE_POSITION);
    }

    /** Whether {@code need} slots are free from the next position on; S1. */
    private boolean room(long need) {
        long bound = ring.slots - need;
        if (next - limit <= bound) {
            return true;
        }
        limit = memory.getLongAcquire(Format.SPACE_POSITION);
        if (next - limit > bound || next - limit < 0) {
            limit = memory.getLongAcquire(Format.CONSUMER_POSITION);
        }
        if (next - limit < 0 || next - limit > ring.slots) {
            throw ring.corrupt("consumer position " + Long.toUnsignedString(limit), next);
        }
        if (next - limit <= bound) {
            return true;
        }
        long lease = memory.getLongAcquire(Format.LEASE_END);
        blockedBy(lease - limit > 0 ? limit + 1 : 0);
        return false;
    }

    /** Makes room for {@code k} contiguous slots, publishing padding before them; S1 and S2. */
    private boolean take(long k) {
        long pad = ring.paddingFor(next, k);
        if (!room(pad + k)) {
            return false;
        }
        if (pad > 0) {
            ring.setLengthWord(next, Format.PAD);
            ring.setState(next, Words.spscReady(next + pad, 0));
            advance(next + pad);
            me.count(Format.PADDING, pad);
        }
        return true;
    }

    private void advance(long to) {
        long from = next;
        next = to;
        if (ring.slots <= 64 || from >>> 3 != to >>> 3) {
            memory.setLong(Format.PRODUCER_POSITION, to);
        }
    }

    private void publish(long k) {
        ring.setState(next, Words.spscReady(next + k, 0));
        advance(next + k);
        me.count(Format.SENT, 1);
    }

    @Override
    boolean put(ByteBuffer message) {
        long k = ring.slotsFor(message.remaining());
        if (!take(k)) {
            return false;
        }
        ring.write(next, message);
        publish(k);
        return true;
    }

    @Override
    boolean putAll(List<byte[]> messages) {
        int n = messages.get(0).length;
        boolean run = messages.size() > 1 && n <= core.header.slotSize();
        for (byte[] m : messages) {
            run &= m.length == n;
        }
        return run ? putRun(messages, n) : putEach(messages);
    }

    /** Publishes equally long messages of one slot each by one word. */
    private boolean putRun(List<byte[]> messages, int n) {
        int m = messages.size();
        if (!room(m)) {
            return false;
        }
        for (int i = 0; i < m; i++) {
            memory.copyIn(ring.payload(next + i, n), ByteBuffer.wrap(messages.get(i)));
        }
        ring.setLengthWord(next, n | Format.RUN);
        ring.setState(next, Words.spscReady(next + m, 0));
        advance(next + m);
        me.count(Format.SENT, m);
        return true;
    }

    private boolean putEach(List<byte[]> messages) {
        long at = next;
        for (byte[] m : messages) {
            long k = ring.slotsFor(m.length);
            at += ring.paddingFor(at, k) + k;
        }
        if (at - next > ring.slots || !room(at - next)) {
            return false;
        }
        for (byte[] m : messages) {
            put(ByteBuffer.wrap(m));
        }
        return true;
    }

    @Override
    Reservation claim(int size) {
        long k = ring.slotsFor(size);
        if (!take(k)) {
            return null;
        }
        memory.setLong(Format.RESERVED_POSITION, next + 1);
        me.hold(next);
        return new Reservation(this, next, next, next + k, ring.lengthFor(size), size);
    }

    @Override
    void commit(Reservation r, int bytes) {
        ring.setLengthWord(r.position, r.word & ~Format.LENGTH_MASK | bytes);
        publish(ring.slotsFor(bytes));
        end();
    }

    @Override
    void discard(Reservation r) {
        end();
        me.count(Format.DISCARDED, 1);
    }

    private void end() {
        reservation = null;
        memory.setLongRelease(Format.RESERVED_POSITION, 0);
        me.holdNothing();
    }
}

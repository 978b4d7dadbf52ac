package io.millrace;

import java.util.ArrayList;
import java.util.List;

/** Consumer of an SPSC ring. */
final class SpscConsumer extends Consumer {
    private final long stride;
    /** Everything below has been received and released. */
    private long next;
    private long runEnd;
    private long runLength;

    /** A message at a position: where it ends, its length word, how often it was given back. */
    private record Found(long position, long end, long word, int r) {
    }

    SpscConsumer(Segment.Core core, Participant me) {
        super(core, me);
        stride = Math.max(1, ring.slots / 4);
        try {
            SpscSuccession.consumer(core, core.header.drop());
        } catch (RuntimeException e) {
            me.close();
            throw e;
        }
        reload();
    }

    private void reload() {
        next = memory.getLongAcquire(Format.CONSUMER_POSITION);
        runEnd = memory.getLongAcquire(Format.RUN_END);
        runLength = memory.getLong(Format.RUN_LENGTH);
    }

    /**
     * Finds the first message from {@code h} on, stepping over padding and what was counted as lost.
     *
     * @param leasing whether something before {@code h} is about to be leased
     */
    private Found find(long h, boolean leasing) {
        for (;;) {
            long w = ring.state(h);
            long e = Words.spscEnd(w, h, ring.slots);
            if (e == h) {
                return inRun(h);
            }
            long word = ring.lengthWord(h);
            if ((word & Format.RUN) != 0) {
                if (leasing) {
                    return null;
                }
                enterRun(h, e, word);
                return inRun(h);
            }
            if ((word & Format.PAD) == 0) {
                if (ring.checkedLength(word, h, e) < 0) {
                    throw ring.corrupt("length word", h);
                }
                if (!SpscSuccession.exhausted(core, w)) {
                    return new Found(h, e, word, Words.deliveries(w));
                }
            }
            h = e;
            if (!leasing) {
                passed(h);
            }
        }
    }

    private Found inRun(long h) {
        long left = runEnd - h;
        return left > 0 && left <= ring.slots ? new Found(h, h + 1, runLength, 0) : null;
    }

    private void enterRun(long h, long e, long word) {
        long n = word & Format.LENGTH_MASK;
        if ((word & ~Format.LENGTH_MASK) != Format.RUN || n > core.header.slotSize()) {
            throw ring.corrupt("length word of a run", h);
        }
        runLength = n;
        runEnd = e;
        memory.setLong(Format.RUN_LENGTH, n);
        memory.setLongRelease(Format.RUN_END, e);
    }

    private void passed(long to) {
        next = to;
        memory.setLongRelease(Format.CONSUMER_POSITION, to);
        if (to - memory.getLong(Format.SPACE_POSITION) >= stride) {
            memory.setLongRelease(Format.SPACE_POSITION, to);
        }
    }

    @Override
    Message receive() {
        Found f = find(next, false);
        if (f == null) {
            blockedBy(0);
            return null;
        }
        byte[] payload = copy(f.position, f.word);
        passed(f.end);
        received(f.r);
        return new Message(f.position, f.r + 1, payload);
    }

    @Override
    Lease lease(int max) {
        Found f = find(next, false);
        if (f == null) {
            blockedBy(0);
            return null;
        }
        List<Lease.Part> parts = new ArrayList<>();
        long end = f.end;
        List<Found> found = new ArrayList<>();
        for (; f != null && found.size() < max; f = find(end, true)) {
            found.add(f);
            end = f.end;
        }
        memory.setLongRelease(Format.LEASE_END, end);
        me.hold(next);
        Lease l = new Lease(this, parts, end);
        for (Found x : found) {
            parts.add(l.new Part(x.position, x.end, x.word, x.r));
            received(x.r);
        }
        return l;
    }

    @Override
    void release(Lease l, int from, int to) {
        passed(l.parts.get(to - 1).end);
        if (to == l.parts.size()) {
            lease = null;
            me.holdNothing();
        } else {
            me.hold(next);
        }
    }

    @Override
    void giveBack(Lease l, int from, boolean drop) {
        SpscSuccession.consumer(core, drop);
        memory.addLong(Format.RETURNS, 1);
        reload();
        lease = null;
        me.holdNothing();
    }

    @Override
    boolean pending() {
        return lease == null && find(next, false) != null;
    }

    @Override
    boolean drained() {
        return true;
    }
}

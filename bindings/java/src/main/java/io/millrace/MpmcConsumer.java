package io.millrace;

import java.lang.invoke.VarHandle;
import java.util.ArrayList;
import java.util.List;

/** Consumer of an MPMC ring. */
final class MpmcConsumer extends Consumer {
    /** Private candidate: every position below it has been passed. */
    private long own;
    private boolean scanned;
    private long seen;

    /** A message that is ready to be taken. */
    private record Found(long position, long word, boolean rescued) {
        long end() {
            return Words.sequence(word, position);
        }

        int r() {
            return Words.deliveries(word);
        }
    }

    MpmcConsumer(Segment.Core core, Participant me) {
        super(core, me);
        own = core.header.start();
    }

    private long hint() {
        return memory.getLongAcquire(Format.CONSUMER_POSITION);
    }

    private static long later(long a, long b) {
        return a - b > 0 ? a : b;
    }

    /** Finds a message; C0 to C2. Null when there is none, or the way is blocked. */
    private Found find() {
        long steps = maxSteps();
        for (;;) {
            long g = memory.getLongAcquire(Format.RETURNS);
            if (!scanned || g != seen) {
                Found f = rescue();
                if (f != null) {
                    return f;
                }
                scanned = true;
                seen = g;
            }
            long p = later(own, hint());
            for (;;) {
                if (--steps < 0) {
                    throw ring.corrupt("endless walk", p);
                }
                long w = ring.state(p);
                long h = Words.head(w, p, p, ring.mask);
                int state = Words.state(w);
                if (state == 0 || (h - p & ring.mask) != 0) {
                    throw ring.corrupt("state word", p);
                }
                if (h == p && state != Format.FREE) {
                    if (state == Format.READY) {
                        own = p;
                        return new Found(p, w, false);
                    }
                    if (state == Format.CLAIMED) {
                        own = p;
                        blockedBy(w);
                        return null;
                    }
                    p = Words.sequence(w, p);
                } else if (h - p > 0) {
                    long c = state == Format.FREE ? h - ring.slots : h;
                    p = later(later(p + 1, c - ring.slots + 1), hint());
                } else if (h == p || h + ring.slots == p) {
                    own = p;
                    blockedBy(0);
                    break;
                } else {
                    throw ring.corrupt("state word", p);
                }
            }
            if (memory.getLongAcquire(Format.RETURNS) == g) {
                return null;
            }
        }
    }

    /** Looks at every slot for a message that was given back; 9.5. */
    private Found rescue() {
        long from = memory.getLongAcquire(Format.PRODUCER_POSITION) - ring.slots;
        for (long i = 0; i < ring.slots; i++) {
            long x = from + i;
            long w = ring.state(x);
            if (Words.state(w) == Format.READY && Words.deliveries(w) > 0) {
                return new Found(Words.head(w, x, x, ring.mask), w, true);
            }
        }
        return null;
    }

    /** The length word of a message, or -1 when somebody else was quicker. */
    private long length(Found f) {
        long word = ring.lengthWord(f.position);
        if (ring.checkedLength(word, f.position, f.end()) >= 0) {
            return word;
        }
        VarHandle.acquireFence();
        if (ring.state(f.position) == f.word) {
            throw ring.corrupt("length word", f.position);
        }
        return -1;
    }

    private void passed(Found f, long e) {
        if (f.rescued) {
            return;
        }
        long before = own;
        own = e;
        if (ring.hintDue(before, e) && e - hint() > 0) {
            memory.setLong(Format.CONSUMER_POSITION, e);
        }
    }

    /** Frees {@code [from, to)}, the last first. */
    private void free(long from, long to) {
        for (long q = to - 1; q - from >= 0; q--) {
            ring.setState(q, Words.free(q + ring.slots));
        }
    }

    @Override
    Message receive() {
        for (long steps = maxSteps(); steps > 0; steps--) {
            Found f = find();
            if (f == null) {
                return null;
            }
            long word = length(f);
            if (word == -1) {
                continue;
            }
            long p = f.position;
            long e = f.end();
            byte[] payload = copy(p, word);
            if (e - p == 1) {
                if (!ring.casState(p, f.word, Words.free(p + ring.slots))) {
                    continue;
                }
            } else {
                if (!ring.casState(p, f.word, Words.done(e, me.id))) {
                    continue;
                }
                free(p, e);
            }
            passed(f, e);
            received(f.r());
            return new Message(p, f.r() + 1, payload);
        }
        throw ring.corrupt("endless receive", own);
    }

    @Override
    Lease lease(int max) {
        for (long steps = maxSteps(); steps > 0; steps--) {
            Found f = find();
            if (f == null) {
                me.holdNothing();
                return null;
            }
            long p = f.position;
            me.hold(p);
            List<Long> heads = new ArrayList<>();
            heads.add(p);
            long e = f.r() == 0 ? stretch(f, max, heads) : f.end();
            if (!ring.casState(p, f.word, Words.taken(e, me.id, f.r()))) {
                continue;
            }
            passed(f, e);
            return leased(f, heads, e);
        }
        throw ring.corrupt("endless lease", own);
    }

    /** Extends a batch over the messages that follow; returns its end. */
    private long stretch(Found f, int max, List<Long> heads) {
        long e = f.end();
        for (long q = e; heads.size() < max; ) {
            long w = ring.state(q);
            if (w == Words.free(q + ring.slots)) {
                q++;
            } else if (Words.state(w) == Format.READY && Words.deliveries(w) == 0
                    && Words.head(w, q, q, ring.mask) == q) {
                heads.add(q);
                e = q = Words.sequence(w, q);
            } else {
                break;
            }
            if (q - f.position >= ring.slots) {
                break;
            }
        }
        return e;
    }

    private Lease leased(Found f, List<Long> heads, long e) {
        List<Lease.Part> parts = new ArrayList<>();
        Lease l = new Lease(this, parts, e);
        for (long q : heads) {
            long end = q == f.position ? f.end() : Words.sequence(ring.state(q), q);
            long word = ring.lengthWord(q);
            if (ring.checkedLength(word, q, end) < 0) {
                throw ring.corrupt("length word", q);
            }
            parts.add(l.new Part(q, end, word, f.r()));
            received(f.r());
        }
        return l;
    }

    @Override
    void release(Lease l, int from, int to) {
        long p = l.parts.get(from).position;
        boolean all = to == l.parts.size();
        long m = all ? l.end : l.parts.get(to).position;
        if (!all) {
            ring.setState(m, Words.taken(l.end, me.id, 0));
        }
        if (m - p > 1) {
            ring.setState(p, Words.done(m, me.id));
        }
        free(p, m);
        if (all) {
            lease = null;
            me.holdNothing();
        } else {
            me.hold(m);
        }
    }

    @Override
    void giveBack(Lease l, int from, boolean drop) {
        int max = core.header.maxDeliveries();
        for (int i = from; i < l.parts.size(); i++) {
            Lease.Part part = l.parts.get(i);
            long p = part.position;
            if (i + 1 < l.parts.size()) {
                ring.setState(l.parts.get(i + 1).position, Words.taken(l.end, me.id, 0));
            }
            int r = Format.nextDelivery(part.r);
            if (drop || max > 0 && r >= max) {
                core.table.count(ring, p, ring.state(p), true);
                free(p, part.end);
            } else {
                ring.setState(p, Words.ready(part.end, r));
            }
        }
        memory.addLong(Format.RETURNS, 1);
        lease = null;
        me.holdNothing();
    }

    @Override
    boolean pending() {
        return find() != null;
    }

    @Override
    boolean drained() {
        for (long i = 0; i < ring.slots; i++) {
            long w = ring.state(i);
            int state = Words.state(w);
            if (state == Format.READY || state == Format.CLAIMED
                    || state == Format.TAKEN && Words.owner(w) != me.id) {
                return false;
            }
        }
        return true;
    }
}

package io.millrace;

import java.nio.channels.FileLock;
import java.util.ArrayList;
import java.util.List;

/** Finds out who is dead, and settles what the dead have left. Anybody may do that, several at once. */
final class Recovery {
    private final Segment.Core core;

    Recovery(Segment.Core core) {
        this.core = core;
    }

    /** Whether a session of that role is open and its participant alive. */
    boolean anyLive(boolean producer) {
        synchronized (core) {
            for (int id = 0; id < core.table.size; id++) {
                if (producer ? core.table.producerOpen(id) : core.table.consumerOpen(id)) {
                    if (alive(id)) {
                        return true;
                    }
                }
            }
            return false;
        }
    }

    /** Whether somebody holds the byte of {@code id}. The kernel's word, given by taking the read lock for a moment. */
    boolean alive(int id) {
        synchronized (core) {
            if (core.own.get(id)) {
                return true;
            }
            FileLock lock = core.locks.hold(Format.LOCK_PARTICIPANT + id);
            Locks.release(lock);
            return lock == null;
        }
    }

    /** Recovers and retires everybody who is dead; returns how many that were. */
    int recoverDead() {
        int n = 0;
        for (int id = 0; id < core.table.size; id++) {
            if (core.table.open(id) && recover(id)) {
                n++;
            }
        }
        return n;
    }

    /** Recovers and retires {@code id} if it is dead; steps V1 to V7. */
    boolean recover(int id) {
        synchronized (core) {
            if (core.own.get(id)) {
                return false;
            }
            FileLock lock = core.locks.hold(Format.LOCK_PARTICIPANT + id);
            if (lock == null) {
                return false;
            }
            try {
                if (!core.table.open(id)) {
                    return false;
                }
                if (core.header.spsc()) {
                    settleRole(id);
                } else {
                    settleSlots(id);
                }
                core.memory.addLong(Format.RETURNS, 1);
                return retire(id);
            } finally {
                Locks.release(lock);
            }
        }
    }

    private boolean retire(int id) {
        core.memory.setLong(Table.at(id, Format.HELD), 0);
        if (core.table.producerOpen(id)) {
            core.memory.setLongRelease(Table.at(id, Format.ENDED), Clock.now() * 2 + 1);
        }
        boolean changed = retire(id, Format.PRODUCER_REGISTERED, Format.PRODUCER_CLOSED, Format.PRODUCER_DIED);
        changed |= retire(id, Format.CONSUMER_REGISTERED, Format.CONSUMER_CLOSED, Format.CONSUMER_DIED);
        if (changed) {
            core.memory.addLong(Format.RECOVERIES, 1);
            core.table.rosterChanged();
        }
        return changed;
    }

    private boolean retire(int id, int registered, int closed, int died) {
        int was = core.table.getInt(id, died);
        int now = core.table.getInt(id, registered) - core.table.getInt(id, closed);
        return was != now && core.memory.casInt(Table.at(id, died), was, now);
    }

    /** SPSC: does for the next holder of the role what it would do first, unless there is one. */
    private void settleRole(int id) {
        if (core.table.producerOpen(id)) {
            FileLock role = core.locks.own(Format.LOCK_PRODUCER);
            if (role != null) {
                try {
                    SpscSuccession.producer(core);
                } finally {
                    Locks.release(role);
                }
            }
        }
        if (core.table.consumerOpen(id)) {
            FileLock role = core.locks.own(Format.LOCK_CONSUMER);
            if (role != null) {
                try {
                    SpscSuccession.consumer(core, core.header.drop());
                } finally {
                    Locks.release(role);
                }
            }
        }
    }

    private void settleSlots(int id) {
        Ring ring = core.ring;
        long near = core.memory.getLongAcquire(Format.PRODUCER_POSITION);
        for (long i = 0; i < ring.slots; i++) {
            long w = ring.state(i);
            if (Words.owner(w) != id) {
                continue;
            }
            long p = Words.head(w, i, near, ring.mask);
            long e = Words.sequence(w, near);
            switch (Words.state(w)) {
                case Format.CLAIMED -> {
                    freeInterior(p, e);
                    if (core.table.count(ring, p, w, false)) {
                        ring.casState(p, w, Words.free(p + ring.slots));
                    }
                }
                case Format.DONE -> {
                    freeInterior(p, e);
                    ring.casState(p, w, Words.free(p + ring.slots));
                }
                case Format.TAKEN -> giveBackLease(p, e, w);
                default -> { }
            }
        }
    }

    /** Frees what is behind the head of {@code [p, e)} and still belongs to this lap, last to first. */
    private void freeInterior(long p, long e) {
        Ring ring = core.ring;
        for (long q = e - 1; q != p; q--) {
            long x = ring.state(q);
            if (Words.head(x, q, q, ring.mask) == q) {
                ring.casState(q, x, Words.free(q + ring.slots));
            }
        }
    }

    private record Leased(long position, long word) {
    }

    private void giveBackLease(long p, long e, long w) {
        Ring ring = core.ring;
        long n = ring.lengthWord(p) & Format.LENGTH_MASK;
        if (ring.state(p) != w) {
            return;
        }
        long first = p + ring.slotsFor(n);
        if (first - e > 0) {
            throw ring.corrupt("length of a leased message", p);
        }
        List<Leased> behind = new ArrayList<>();
        for (long q = first; q - e < 0; ) {
            long x = ring.state(q);
            long end = Words.sequence(x, q);
            if (Words.head(x, q, q, ring.mask) == q && Words.state(x) == Format.READY) {
                if (Words.deliveries(x) == 0 && end - e <= 0) {
                    behind.add(new Leased(q, x));
                }
                q = end;
            } else if (Words.head(x, q, q, ring.mask) == q && Words.state(x) == Format.TAKEN) {
                break; // the rest of a lease that was being released in parts: it has a word of its own
            } else {
                q++;
            }
        }
        for (int i = behind.size() - 1; i >= 0; i--) {
            Leased m = behind.get(i);
            giveBack(m.position, Words.sequence(m.word, m.position), m.word);
        }
        giveBack(p, first, w);
    }

    private void giveBack(long p, long end, long word) {
        Ring ring = core.ring;
        int r = Format.nextDelivery(Words.deliveries(word));
        int max = core.header.maxDeliveries();
        if (!core.header.drop() && (max == 0 || r < max)) {
            ring.casState(p, word, Words.ready(end, r));
        } else if (core.table.count(ring, p, word, true)) {
            freeInterior(p, end);
            ring.casState(p, word, Words.free(p + ring.slots));
        }
    }
}

package io.millrace;

import java.nio.channels.FileLock;
import java.util.concurrent.locks.LockSupport;

/** A registered session: an id, its locks, and the counters its owner writes. */
final class Participant {
    private static final long PATIENCE = 100_000_000L;

    final int id;
    final boolean producer;
    private final Segment.Core core;
    private final FileLock role;
    private final FileLock lock;
    private boolean closed;

    private Participant(Segment.Core core, int id, boolean producer, FileLock role, FileLock lock) {
        this.core = core;
        this.id = id;
        this.producer = producer;
        this.role = role;
        this.lock = lock;
    }

    /** Begins a session; steps R1 to R4. What the ring's kind adds (R5) is done by the handle. */
    static Participant register(Segment.Core core, boolean producer) {
        synchronized (core) {
            core.announce();
            FileLock role = core.header.spsc() ? takeRole(core, producer) : null;
            Participant p = null;
            boolean begun = false;
            try {
                p = takeEntry(core, producer, role);
                p.begin();
                begun = true;
                return p;
            } finally {
                if (!begun) {
                    if (p != null) {
                        core.own.clear(p.id);
                        Locks.release(p.lock);
                    }
                    Locks.release(role);
                }
            }
        }
    }

    /** Locks an entry that no session is open in. One that is locked by somebody who recovers its dead owner is waited for. */
    private static Participant takeEntry(Segment.Core core, boolean producer, FileLock role) {
        long until = System.nanoTime() + PATIENCE;
        for (int i = 0;; i++) {
            boolean again = i == 0; // in any case: an entry that somebody else tries for a moment looks as if its dead owner lived
            for (int retire = 0; retire < 2; retire++) { // free entries first, then those of the dead
                for (int id = 0; id < core.table.size; id++) {
                    if (core.own.get(id) || core.table.open(id) && (retire == 0 || lives(core, id))) {
                        continue;
                    }
                    FileLock lock = core.locks.own(Format.LOCK_PARTICIPANT + id);
                    if (lock == null || core.table.open(id)) { // somebody recovers its owner; or came, and died, between the look and the lock
                        Locks.release(lock);
                        again = true;
                    } else {
                        core.own.set(id);
                        return new Participant(core, id, producer, role, lock);
                    }
                }
            }
            if (!again || System.nanoTime() - until > 0) {
                throw new TableFullException("all " + core.table.size + " participants are in use; close some, or create the ring with more");
            }
            LockSupport.parkNanos(1_000_000L);
        }
    }

    /** Whether a session is open there still, once {@code id} was recovered if it is dead; somebody else may have retired it. */
    private static boolean lives(Segment.Core core, int id) {
        return !core.recovery.recover(id) && core.table.open(id);
    }

    private static FileLock takeRole(Segment.Core core, boolean producer) {
        long until = System.nanoTime() + PATIENCE;
        for (;;) {
            FileLock role = core.locks.own(producer ? Format.LOCK_PRODUCER : Format.LOCK_CONSUMER);
            if (role != null) {
                return role;
            }
            if (core.recovery.anyLive(producer) || System.nanoTime() - until > 0) {
                throw new RoleTakenException("the ring has a " + (producer ? "producer" : "consumer"));
            }
            LockSupport.parkNanos(1_000_000L);
        }
    }

    private void begin() {
        set(Format.HELD, 0);
        core.memory.setInt(Table.at(id, Format.PID), (int) ProcessHandle.current().pid());
        core.memory.setInt(Table.at(id, Format.PUBLISH), 0);
        set(Format.SINCE, Clock.now());
        core.memory.addInt(Table.at(id, producer ? Format.PRODUCER_REGISTERED : Format.CONSUMER_REGISTERED), 1);
        core.table.rosterChanged();
    }

    /** Ends the session; steps X2 to X5. */
    void close() {
        synchronized (core) {
            if (closed) {
                return;
            }
            closed = true;
            if (producer) {
                set(Format.ENDED, Clock.now() * 2);
            }
            core.memory.addInt(Table.at(id, producer ? Format.PRODUCER_CLOSED : Format.CONSUMER_CLOSED), 1);
            core.table.rosterChanged();
            core.own.clear(id);
            Locks.release(role);
            Locks.release(lock);
        }
    }

    private void set(int field, long value) {
        core.memory.setLongRelease(Table.at(id, field), value);
    }

    /** Publishes the position of an open reservation or lease. */
    void hold(long position) {
        core.memory.setLong(Table.at(id, Format.HELD), position + 1);
    }

    void holdNothing() {
        core.memory.setLong(Table.at(id, Format.HELD), 0);
    }

    /** Adds to a counter that only this participant writes. */
    void count(int field, long n) {
        long at = Table.at(id, field);
        core.memory.setLong(at, core.memory.getLong(at) + n);
    }
}

package io.millrace;

/** What producers and consumers have in common. A handle is used by one thread at a time. */
abstract class Handle implements AutoCloseable {
    /** Between two looks for dead participants. */
    private static final long TICK = 40_000_000L;
    /** How long somebody alive must stand still to count as stalled. */
    private static final long STALL = 100_000_000L;

    final Segment.Core core;
    final Participant me;
    final Ring ring;
    final Memory memory;
    private boolean closed;
    private long looked = System.nanoTime() - TICK;
    private int roster;
    private long blocker;
    private long blockedSince;

    Handle(Segment.Core core, Participant me) {
        this.core = core;
        this.me = me;
        ring = core.ring;
        memory = core.memory;
    }

    final void check() {
        if (closed) {
            throw new IllegalStateException("closed");
        }
        if (core.removed()) {
            throw new RemovedException("the ring was removed");
        }
    }

    /** Whether it is time to look for the dead: a tick has passed, or somebody came or went. */
    final boolean lookDue() {
        long now = System.nanoTime();
        int r = core.table.roster();
        if (now - looked < TICK && r == roster) {
            return false;
        }
        looked = now;
        roster = r;
        return true;
    }

    /** Notes who is in the way: a participant and the word or position it stands at; 0: nobody. */
    final void blockedBy(long who) {
        if (who != blocker) {
            blocker = who;
            blockedSince = System.nanoTime();
        }
    }

    /** Ends a wait whose time has run out. */
    final void timedOut() {
        if (blocker != 0 && System.nanoTime() - blockedSince >= STALL) {
            throw new StalledException(String.format("timed out behind a stalled participant, word 0x%016x", blocker));
        }
    }

    /** Bounds the steps of one call. */
    final long maxSteps() {
        return 64 * ring.slots + 65536;
    }

    /** Settles what this handle has open. */
    abstract void settle();

    /** Id in the participant table. */
    public final int id() {
        return me.id;
    }

    /** Ends the session; what is still open is discarded or given back. */
    @Override
    public final void close() {
        if (closed) {
            return;
        }
        closed = true;
        try {
            if (!core.removed()) {
                settle();
            }
        } finally {
            me.close();
        }
    }
}

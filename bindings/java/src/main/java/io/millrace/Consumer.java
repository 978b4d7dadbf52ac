package io.millrace;

import java.time.Duration;

/** Receives messages. One thread at a time. */
public abstract class Consumer extends Handle {
    private boolean follow;
    private Duration grace = Duration.ZERO;
    private long diedAt;
    private boolean died;
    Lease lease;

    Consumer(Segment.Core core, Participant me) {
        super(core, me);
    }

    /** Whether to wait for further producers at the end of the stream. */
    public final void follow(boolean wait) {
        follow = wait;
    }

    /** How long to wait for a successor when the last producer died. */
    public final void grace(Duration patience) {
        grace = patience;
    }

    /** Receives a copy without waiting; null when there is nothing. Does not look for the end of the stream. */
    public final Message tryReceive() {
        check();
        none();
        return attempt(this::receive);
    }

    /**
     * Receives a copy, and waits for one if need be.
     *
     * @param limit null: for ever
     * @return null when the time has run out
     * @throws EndOfStreamException when everything was received and no producer is left
     */
    public final Message receive(Duration limit) throws InterruptedException {
        check();
        none();
        return await(limit, this::receive);
    }

    /** Leases up to {@code max} messages without waiting; null when there is none. */
    public final Lease tryNext(int max) {
        check();
        none();
        some(max);
        return lease = attempt(() -> lease(max));
    }

    /** Leases up to {@code max} messages, and waits for the first if need be; null when the time has run out. */
    public final Lease next(int max, Duration limit) throws InterruptedException {
        check();
        none();
        some(max);
        return lease = await(limit, () -> lease(max));
    }

    private static void some(int max) {
        if (max < 1) {
            throw new IllegalArgumentException("a lease of " + max + " messages");
        }
    }

    /** One attempt; and one more when it found nothing and somebody who died stood in the way, at which it looks once in a while. */
    private <T> T attempt(Try<T> attempt) {
        T got = attempt.now();
        if (got == null && lookDue()) {
            core.recovery.recoverDead();
            got = attempt.now();
        }
        return got;
    }

    private interface Try<T> {
        T now();
    }

    private <T> T await(Duration limit, Try<T> attempt) throws InterruptedException {
        T got = attempt.now();
        for (Poll poll = new Poll(limit); got == null; check()) {
            if (lookDue()) {
                got = look(attempt);
                if (got != null) {
                    break;
                }
            }
            got = attempt.now();
            if (got == null && !poll.pause()) {
                timedOut();
                return null;
            }
        }
        return got;
    }

    /** Recovers the dead, and finds out whether the stream has ended. */
    private <T> T look(Try<T> attempt) {
        for (;;) {
            int roster = core.table.roster();
            core.recovery.recoverDead();
            if (!core.table.ever(true) || core.recovery.anyLive(true)) {
                died = false;
                return null;
            }
            core.recovery.recoverDead(); // who died since the first look
            T got = attempt.now();
            if (got != null || !drained()) {
                return got;
            }
            if (core.table.roster() == roster) {
                ended();
                return null;
            }
        }
    }

    private void ended() {
        if (!waitsForMore()) {
            throw new EndOfStreamException(core.table.lastProducerDied());
        }
    }

    /** Whether a stream that has no producer left is not over yet: this consumer follows it, or grants the dead producer a successor. */
    private boolean waitsForMore() {
        if (follow) {
            return true;
        }
        if (grace.isZero() || !core.table.lastProducerDied()) {
            return false;
        }
        if (!died) {
            died = true;
            diedAt = System.nanoTime();
        }
        return System.nanoTime() - diedAt < grace.toNanos();
    }

    /** Whether the stream has ended now and everything was received; this recovers the dead. */
    public final boolean atEnd() {
        check();
        int roster;
        do {
            roster = core.table.roster();
            core.recovery.recoverDead();
            if (!core.table.ever(true) || core.recovery.anyLive(true)) {
                died = false;
                return false;
            }
            core.recovery.recoverDead(); // who died since the first look
            if (pending() || !drained()) {
                return false;
            }
        } while (core.table.roster() != roster);
        return !waitsForMore();
    }

    abstract Message receive();

    abstract Lease lease(int max);

    abstract void release(Lease lease, int from, int to);

    abstract void giveBack(Lease lease, int from, boolean drop);

    /** Whether there is something to receive now. */
    abstract boolean pending();

    /** Whether nothing is claimed, ready, or leased by somebody else. */
    abstract boolean drained();

    final byte[] copy(long position, long lengthWord) {
        long n = lengthWord & Format.LENGTH_MASK;
        if (n > Integer.MAX_VALUE - 8) {
            throw new MessageTooLargeException(n + " bytes in one array");
        }
        byte[] payload = new byte[(int) n];
        memory.copyOut(ring.payload(position, lengthWord), payload);
        return payload;
    }

    final void received(int r) {
        me.count(Format.RECEIVED, 1);
        if (r > 0) {
            me.count(Format.REDELIVERED, 1);
        }
    }

    private void none() {
        if (lease != null) {
            throw new IllegalStateException("a lease is open");
        }
    }

    @Override
    final void settle() {
        if (lease != null) {
            lease.settle(core.header.drop());
        }
    }
}

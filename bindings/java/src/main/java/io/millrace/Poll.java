package io.millrace;

import java.time.Duration;
import java.util.concurrent.locks.LockSupport;

/** Bounded sleeps between tries: at first short ones, never more than a millisecond. */
final class Poll {
    private static final int SPINS = 64;
    private static final long SHORTEST = 20_000;
    private static final long LONGEST = 900_000;

    private final long start = System.nanoTime();
    private final long limit;
    private int spins;
    private long sleep = SHORTEST;

    /** @param limit null: for ever */
    Poll(Duration limit) {
        this.limit = limit == null ? Long.MAX_VALUE : Math.max(0, limit.toNanos());
    }

    /** Waits a little; false when the time has run out. */
    boolean pause() throws InterruptedException {
        if (Thread.interrupted()) {
            throw new InterruptedException();
        }
        if (spins < SPINS) {
            spins++;
            Thread.onSpinWait();
            return limit > 0;
        }
        long left = limit - (System.nanoTime() - start);
        if (left <= 0) {
            return false;
        }
        LockSupport.parkNanos(Math.min(sleep, left));
        sleep = Math.min(LONGEST, sleep * 2);
        return true;
    }
}

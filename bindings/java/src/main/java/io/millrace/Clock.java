package io.millrace;

import java.time.Instant;

/** Wall clock time as the format counts it. */
final class Clock {
    private Clock() {
    }

    /** Nanoseconds since 1970. */
    static long now() {
        Instant t = Instant.now();
        return t.getEpochSecond() * 1_000_000_000L + t.getNano();
    }
}

package io.millrace;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.List;

/** Sends messages. One thread at a time. */
public abstract class Producer extends Handle {
    private boolean patient;
    Reservation reservation;

    Producer(Segment.Core core, Participant me) {
        super(core, me);
    }

    /** Whether to wait, instead of {@link NobodyToReadException}, when the ring is full and the last consumer is gone. */
    public final void waitForConsumers(boolean wait) {
        patient = wait;
    }

    /** Sends without waiting; false when the ring is full. */
    public final boolean trySend(ByteBuffer message) {
        check();
        free();
        size(message.remaining());
        return put(message) || repaired() && put(message);
    }

    /** Sends without waiting; false when the ring is full. */
    public final boolean trySend(byte[] message) {
        return trySend(ByteBuffer.wrap(message));
    }

    /**
     * Sends, and waits for room if need be.
     *
     * @param limit null: for ever
     * @return false when the time has run out
     */
    public final boolean send(ByteBuffer message, Duration limit) throws InterruptedException {
        if (trySend(message)) {
            return true;
        }
        for (Poll poll = new Poll(limit); ; ) {
            boolean nobody = full();
            if (put(message)) {
                return true;
            }
            nobody(nobody);
            if (!poll.pause()) {
                timedOut();
                return false;
            }
            check();
        }
    }

    /** Sends, and waits for room if need be. */
    public final boolean send(byte[] message, Duration limit) throws InterruptedException {
        return send(ByteBuffer.wrap(message), limit);
    }

    /**
     * Sends as many of {@code messages}, from the first on, as there is room for now. Each part of them that the ring takes at
     * once becomes readable at once.
     *
     * @return how many were sent
     */
    public final int trySendBatch(List<byte[]> messages) {
        check();
        free();
        for (byte[] m : messages) {
            size(m.length);
        }
        int done = 0;
        while (done < messages.size()) {
            int n = Math.min(fitting(messages, done), messages.size() - done);
            while (n > 0 && !putAll(messages.subList(done, done + n))) {
                n /= 2;
            }
            if (n == 0) {
                if (repaired()) {
                    continue;
                }
                break;
            }
            done += n;
        }
        return done;
    }

    /** Sends {@code messages}, and waits for room if need be; returns how many were sent before the time had run out. */
    public final int sendBatch(List<byte[]> messages, Duration limit) throws InterruptedException {
        int done = trySendBatch(messages);
        while (done < messages.size() && send(messages.get(done), limit)) {
            done++;
            done += trySendBatch(messages.subList(done, messages.size()));
        }
        return done;
    }

    /** How many messages from {@code from} on make at most half of the ring, but one at least. */
    private int fitting(List<byte[]> messages, int from) {
        long slots = 0;
        int n = 0;
        while (from + n < messages.size()) {
            slots += ring.slotsFor(messages.get(from + n).length);
            if (n > 0 && slots > ring.slots / 2) {
                break;
            }
            n++;
        }
        return n;
    }

    /** Reserves room for a message of up to {@code size} bytes; null when the ring is full. */
    public final Reservation tryReserve(int size) {
        check();
        free();
        size(size);
        if (size > Memory.MAX_SLICE) {
            throw new MessageTooLargeException(size + " bytes in one buffer");
        }
        reservation = claim(size);
        return reservation == null && repaired() ? reservation = claim(size) : reservation;
    }

    /** Reserves, and waits for room if need be; null when the time has run out. */
    public final Reservation reserve(int size, Duration limit) throws InterruptedException {
        Reservation r = tryReserve(size);
        for (Poll poll = new Poll(limit); r == null; check()) {
            boolean nobody = full();
            r = reservation = claim(size);
            if (r == null) {
                nobody(nobody);
                if (!poll.pause()) {
                    timedOut();
                    return null;
                }
            }
        }
        return r;
    }

    /** Claims, fills and publishes, or finds the ring full. */
    abstract boolean put(ByteBuffer message);

    /** Does the same for several messages of at most half of the ring: all of them or none. */
    abstract boolean putAll(List<byte[]> messages);

    abstract Reservation claim(int size);

    abstract void commit(Reservation r, int bytes);

    abstract void discard(Reservation r);

    /** Looks once in a while whether the dead stand in the way of a call that does not wait; whether it did. */
    private boolean repaired() {
        if (!lookDue()) {
            return false;
        }
        core.recovery.recoverDead();
        return true;
    }

    /** Looks after the dead once in a while; true when nobody is left to read. */
    private boolean full() {
        if (!lookDue()) {
            return false;
        }
        core.recovery.recoverDead();
        return !patient && core.table.ever(false) && !core.recovery.anyLive(false);
    }

    private static void nobody(boolean nobody) {
        if (nobody) {
            throw new NobodyToReadException("the ring is full, and its last consumer is gone");
        }
    }

    private void free() {
        if (reservation != null) {
            throw new IllegalStateException("a reservation is open");
        }
    }

    private void size(long n) {
        if (n > core.header.maxMessage()) {
            throw new MessageTooLargeException(n + " bytes, the ring carries " + core.header.maxMessage());
        }
    }

    @Override
    final void settle() {
        if (reservation != null) {
            reservation.discard();
        }
        core.recovery.recoverDead();
    }
}

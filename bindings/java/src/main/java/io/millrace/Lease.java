package io.millrace;

import java.nio.ByteBuffer;
import java.util.List;

/**
 * Messages that are read where they lie. They belong to the reader until they are released, or given back for somebody to
 * receive them again. The views must not be used after that.
 */
public final class Lease implements AutoCloseable {
    /** One message of a lease. */
    public final class Part {
        final long position;
        final long end;
        final long word;
        final int r;

        Part(long position, long end, long word, int r) {
            this.position = position;
            this.end = end;
            this.word = word;
            this.r = r;
        }

        public long position() {
            return position;
        }

        /** 1 for the first delivery. */
        public int deliveries() {
            return r + 1;
        }

        /** Bytes of the message. */
        public long length() {
            return word & Format.LENGTH_MASK;
        }

        /** The message itself, for reading; at most half a GiB. */
        public ByteBuffer payload() {
            if (length() > Memory.MAX_SLICE) {
                throw new MessageTooLargeException(length() + " bytes in one buffer");
            }
            Ring ring = consumer.ring;
            return consumer.memory.slice(ring.payload(position, word), (int) length()).asReadOnlyBuffer();
        }

        /** A copy of the message. */
        public byte[] copy() {
            return consumer.copy(position, word);
        }
    }

    private final Consumer consumer;
    final List<Part> parts;
    /** Where the extent ends; behind the last message there may be padding. */
    final long end;
    /** Index of the first part that is still held. */
    private int first;

    Lease(Consumer consumer, List<Part> parts, long end) {
        this.consumer = consumer;
        this.parts = parts;
        this.end = end;
    }

    /** Messages in the lease, released ones included. */
    public int size() {
        return parts.size();
    }

    public Part get(int i) {
        return parts.get(i);
    }

    /** Index of the first message that is still held; {@link #size()} when there is none. */
    public int held() {
        return first;
    }

    /** Releases everything that is still held. */
    public void release() {
        release(parts.size() - 1);
    }

    /** Releases the messages up to the one with index {@code last}. */
    public void release(int last) {
        require(last);
        int from = first;
        first = last + 1;
        consumer.release(this, from, last + 1);
    }

    /** Gives back what is still held. */
    public void giveBack() {
        require(first);
        int from = first;
        first = parts.size();
        consumer.giveBack(this, from, false);
    }

    void settle(boolean drop) {
        if (first < parts.size()) {
            int from = first;
            first = parts.size();
            consumer.giveBack(this, from, drop);
        }
    }

    private void require(int i) {
        if (i < first || i >= parts.size()) {
            throw new IllegalStateException("message " + i + " is not held");
        }
    }

    /** Releases what is still held. */
    @Override
    public void close() {
        if (first < parts.size()) {
            release();
        }
    }
}

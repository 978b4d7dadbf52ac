package io.millrace;

import java.nio.ByteBuffer;

/** Room for one message in the ring itself. Commit it or discard it. */
public final class Reservation {
    private final Producer producer;
    final long claim;
    final long position;
    final long end;
    final long word;
    private final int size;
    private boolean open = true;

    Reservation(Producer producer, long claim, long position, long end, long word, int size) {
        this.producer = producer;
        this.claim = claim;
        this.position = position;
        this.end = end;
        this.word = word;
        this.size = size;
    }

    /** Where the message goes; nobody else reads or writes it before the commit. */
    public ByteBuffer buffer() {
        require();
        return producer.memory.slice(producer.ring.payload(position, word), size);
    }

    /** Makes the whole of it readable. */
    public void commit() {
        commit(size);
    }

    /** Makes the first {@code bytes} bytes readable. */
    public void commit(int bytes) {
        require();
        if (bytes < 0 || bytes > size) {
            throw new IllegalArgumentException("reserved " + size + " bytes, committing " + bytes);
        }
        open = false;
        producer.commit(this, bytes);
    }

    /** Gives the room back. */
    public void discard() {
        require();
        open = false;
        producer.discard(this);
    }

    private void require() {
        if (!open) {
            throw new IllegalStateException("committed or discarded");
        }
    }
}

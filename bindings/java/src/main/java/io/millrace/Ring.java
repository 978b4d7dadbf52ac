package io.millrace;

import java.nio.ByteBuffer;

/** Slots, their state and length words, and their payload, addressed by position. */
final class Ring {
    final Header header;
    final Memory memory;
    final long slots;
    final long mask;
    private final long slotSize;
    private final int inlineSize;
    private final long entries;
    private final int stride;
    private final long data;

    Ring(Header header, Memory memory) {
        this.header = header;
        this.memory = memory;
        slots = header.slots();
        mask = slots - 1;
        slotSize = header.slotSize();
        inlineSize = header.inlineSize();
        entries = header.entriesOffset();
        stride = header.entryStride();
        data = header.dataOffset();
    }

    /** Whether a position hint is stored when the own position goes from one to the other: at each multiple of 8, in small rings always. FORMAT 5.1. */
    boolean hintDue(long from, long to) {
        return from >>> 3 != to >>> 3 || slots <= 64;
    }

    private long entry(long position) {
        return entries + (position & mask) * stride;
    }

    long state(long position) {
        return memory.getLongAcquire(entry(position));
    }

    void setState(long position, long word) {
        memory.setLongRelease(entry(position), word);
    }

    boolean casState(long position, long expected, long word) {
        return memory.casLong(entry(position), expected, word);
    }

    long lengthWord(long position) {
        return memory.getLong(entry(position) + Format.ENTRY_LENGTH);
    }

    void setLengthWord(long position, long word) {
        memory.setLong(entry(position) + Format.ENTRY_LENGTH, word);
    }

    /** Slots that a message of {@code bytes} takes. */
    long slotsFor(long bytes) {
        return Math.max(1, (bytes + slotSize - 1) / slotSize);
    }

    /** Slots to leave out so that {@code k} slots from {@code position} on do not wrap. */
    long paddingFor(long position, long k) {
        long left = slots - (position & mask);
        return k > left ? left : 0;
    }

    /**
     * Checks a length word for a message in the slots {@code [position, end)}.
     *
     * @return its bytes, or -1 when it does not fit
     */
    long checkedLength(long word, long position, long end) {
        long n = word & Format.LENGTH_MASK;
        long k = slotsFor(n);
        if ((word & ~(Format.LENGTH_MASK | Format.INLINE)) != 0 || k != end - position
                || (position & mask) + k > slots || n > header.maxMessage()) {
            return -1;
        }
        return (word & Format.INLINE) != 0 && (k != 1 || n > inlineSize) ? -1 : n;
    }

    /** Address of the payload of the message at {@code position}. */
    long payload(long position, long lengthWord) {
        return (lengthWord & Format.INLINE) != 0
                ? entry(position) + Format.ENTRY_INLINE
                : data + (position & mask) * slotSize;
    }

    /** The length word of a message of {@code n} bytes. */
    long lengthFor(long n) {
        return n <= inlineSize && n <= slotSize ? n | Format.INLINE : n;
    }

    /** Stores payload and length word of a message at {@code position}. */
    void write(long position, ByteBuffer from) {
        long word = lengthFor(from.remaining());
        memory.copyIn(payload(position, word), from);
        setLengthWord(position, word);
    }

    CorruptException corrupt(String what, long position) {
        return new CorruptException(String.format("corrupt: %s at position %s: state 0x%016x, length 0x%016x", what,
                Long.toUnsignedString(position), state(position), lengthWord(position)));
    }
}

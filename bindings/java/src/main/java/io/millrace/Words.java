package io.millrace;

/** State words of MPMC and SPSC rings. */
final class Words {
    private static final int SEQUENCE_SHIFT = 20;
    private static final int OWNER_SHIFT = 8;
    private static final int OWNER_MASK = 4095;
    private static final int SPSC_SHIFT = 8;

    private Words() {
    }

    static long free(long position) {
        return position << SEQUENCE_SHIFT | Format.FREE;
    }

    static long claimed(long end, int owner) {
        return end << SEQUENCE_SHIFT | (long) owner << OWNER_SHIFT | Format.CLAIMED;
    }

    static long done(long end, int owner) {
        return end << SEQUENCE_SHIFT | (long) owner << OWNER_SHIFT | Format.DONE;
    }

    static long ready(long end, int r) {
        return end << SEQUENCE_SHIFT | Format.READY + r;
    }

    static long taken(long end, int owner, int r) {
        return end << SEQUENCE_SHIFT | (long) owner << OWNER_SHIFT | Format.TAKEN + r;
    }

    /** FREE, CLAIMED, DONE, READY or TAKEN without the delivery count; 0 for anything else. */
    static int state(long word) {
        int b = (int) word & 255;
        if (b >= Format.READY && b < 192) {
            return b & ~Format.DELIVERIES_MASK;
        }
        return b >= Format.FREE && b <= Format.DONE ? b : 0;
    }

    static int deliveries(long word) {
        return (int) word & Format.DELIVERIES_MASK;
    }

    static int owner(long word) {
        return (int) (word >>> OWNER_SHIFT) & OWNER_MASK;
    }

    /** The word's sequence in full, as the value nearest to {@code near}. */
    static long sequence(long word, long near) {
        long difference = (word >>> SEQUENCE_SHIFT) - near;
        return near + (difference << SEQUENCE_SHIFT >> SEQUENCE_SHIFT);
    }

    /** The position that an MPMC word in the slot of {@code at} speaks for. */
    static long head(long word, long at, long near, long mask) {
        long e = sequence(word, near);
        return state(word) == Format.FREE ? e : e - 1 - (e - 1 - at & mask);
    }

    static long spscReady(long end, int r) {
        return end << SPSC_SHIFT | Format.READY + r;
    }

    /** The end of the extent that an SPSC word says was published at {@code position}; {@code position} itself: none. */
    static long spscEnd(long word, long position, long slots) {
        long extent = (word >> SPSC_SHIFT) - position << SPSC_SHIFT >> SPSC_SHIFT;
        return state(word) == Format.READY && extent >= 1 && extent <= slots ? position + extent : position;
    }
}

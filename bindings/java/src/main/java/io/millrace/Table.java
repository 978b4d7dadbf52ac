package io.millrace;

/** The participant table and the accounts of loss. */
final class Table {
    final int size;
    private final Header header;
    private final Memory memory;

    Table(Header header, Memory memory) {
        this.header = header;
        this.memory = memory;
        size = header.participants();
    }

    static long at(int id, int field) {
        return Format.PARTICIPANTS + (long) id * Format.PARTICIPANT_STRIDE + field;
    }

    int getInt(int id, int field) {
        return memory.getInt(at(id, field));
    }

    long getLong(int id, int field) {
        return memory.getLongVolatile(at(id, field));
    }

    boolean producerOpen(int id) {
        return getInt(id, Format.PRODUCER_REGISTERED) - getInt(id, Format.PRODUCER_CLOSED)
                - getInt(id, Format.PRODUCER_DIED) == 1;
    }

    boolean consumerOpen(int id) {
        return getInt(id, Format.CONSUMER_REGISTERED) - getInt(id, Format.CONSUMER_CLOSED)
                - getInt(id, Format.CONSUMER_DIED) == 1;
    }

    boolean open(int id) {
        return producerOpen(id) || consumerOpen(id);
    }

    int roster() {
        return memory.getInt(Format.ROSTER);
    }

    void rosterChanged() {
        memory.addInt(Format.ROSTER, 1);
    }

    /** Whether a session of that role was ever begun. */
    boolean ever(boolean producer) {
        for (int i = 0; i < size; i++) {
            if (getInt(i, producer ? Format.PRODUCER_REGISTERED : Format.CONSUMER_REGISTERED) != 0) {
                return true;
            }
        }
        return false;
    }

    /** Whether the producer session that ended last ended by death. */
    boolean lastProducerDied() {
        long last = 0;
        for (int i = 0; i < size; i++) {
            last = Math.max(last, getLong(i, Format.ENDED));
        }
        return (last & 1) != 0;
    }

    /** Sum of a 64-bit counter over all participants. */
    long sum(int field) {
        long sum = 0;
        for (int i = 0; i < size; i++) {
            sum += getLong(i, field);
        }
        return sum;
    }

    private long account(long position) {
        return header.accountsOffset() + (position & header.slots() - 1) * 8;
    }

    /**
     * Counts a loss at {@code position}, once for that position however many attempts there are.
     *
     * @param word the state word on which the decision rests
     * @return false when the state word is another by now: somebody else has settled the slot
     */
    boolean count(Ring ring, long position, long word, boolean lost) {
        int log = Long.numberOfTrailingZeros(header.slots());
        long tag = (position >>> log & (1L << 23) - 1) * 2 + 1;
        int shift = lost ? 20 : 0;
        long max = (1L << 20) - 1;
        for (;;) {
            long a = memory.getLongVolatile(account(position));
            if (ring.state(position) != word) {
                return false;
            }
            if (a >>> 40 == tag) {
                return true;
            }
            long n = Math.min(max, (a >>> shift & max) + 1);
            long counts = a & (1L << 40) - 1 & ~(max << shift) | n << shift;
            if (memory.casLong(account(position), a, tag << 40 | counts)) {
                return true;
            }
        }
    }

    long lost() {
        return total(20);
    }

    long skipped() {
        return total(0);
    }

    private long total(int shift) {
        long sum = 0;
        for (long i = 0; i < header.slots(); i++) {
            sum += memory.getLongVolatile(account(i)) >>> shift & (1L << 20) - 1;
        }
        return sum;
    }
}

package io.millrace;

/** Constants of the wire format, version 1. Names follow the tables of the format description. */
final class Format {
    static final int VERSION = 1;
    /** Fingerprint of the layout tables of version 1. */
    static final long LAYOUT = 0xf44ad915d37b0c74L;
    static final long MAGIC = 0x4543_4152_4c4c_494dL; // "MILLRACE" read as a little-endian u64
    static final int BYTE_ORDER = 0x0A0B0C0D;
    static final int PAGE = 4096;
    static final int HEADER_SIZE = 4096;

    static final int KIND_SPSC = 1;
    static final int KIND_MPMC = 2;
    static final int POLICY_REDELIVER = 1;
    static final int POLICY_DROP = 2;
    static final int BACKING_POSIX = 1;
    static final int BACKING_SYSV = 2;
    static final int BACKING_MEMFD = 3;
    static final int FLAG_TEMPORARY = 1;

    static final long MAX_SLOTS = 1L << 24;
    static final long MAX_SLOT_SIZE = 1L << 30;
    static final long MAX_DATA_SIZE = 1L << 40;
    static final int MAX_PARTICIPANTS = 4096;
    static final int MAX_MAX_DELIVERIES = 48;

    // Control page.
    static final long CONTROL = 4096;
    static final long PRODUCER_POSITION = CONTROL;
    static final long RESERVED_POSITION = CONTROL + 8;
    static final long CONSUMER_POSITION = CONTROL + 128;
    static final long LEASE_END = CONTROL + 136;
    static final long JOURNAL = CONTROL + 144;
    static final long RUN_END = CONTROL + 152;
    static final long RUN_LENGTH = CONTROL + 160;
    static final long SPACE_POSITION = CONTROL + 256;
    static final long RETURNS = CONTROL + 384;
    static final long NOT_EMPTY = CONTROL + 512;
    static final long NOT_FULL = CONTROL + 640;
    static final long ROSTER = CONTROL + 768;
    static final long REMOVED = CONTROL + 772;
    static final long TYPED = CONTROL + 776;
    static final long RECOVERIES = CONTROL + 784;

    // Participant entry.
    static final long PARTICIPANTS = 8192;
    static final int PARTICIPANT_STRIDE = 128;
    static final int PRODUCER_REGISTERED = 0;
    static final int PRODUCER_CLOSED = 4;
    static final int PRODUCER_DIED = 8;
    static final int CONSUMER_REGISTERED = 12;
    static final int CONSUMER_CLOSED = 16;
    static final int CONSUMER_DIED = 20;
    static final int PID = 24;
    static final int PUBLISH = 28;
    static final int SINCE = 32;
    static final int ENDED = 40;
    static final int HELD = 64;
    static final int SENT = 72;
    static final int RECEIVED = 80;
    static final int REDELIVERED = 88;
    static final int PADDING = 96;
    static final int DISCARDED = 104;
    static final int SLEEPS = 112;
    static final int WAKES = 120;

    // Entry.
    static final int ENTRY_LENGTH = 8;
    static final int ENTRY_INLINE = 16;

    // State bytes.
    static final int FREE = 1;
    static final int CLAIMED = 2;
    static final int DONE = 3;
    static final int READY = 64;
    static final int TAKEN = 128;
    static final int DELIVERIES_MASK = 63;
    static final int DELIVERIES_WRAP = 48;

    // Length word.
    static final long LENGTH_MASK = (1L << 40) - 1;
    static final long INLINE = 1L << 56;
    static final long RUN = 1L << 57;
    static final long PAD = 1L << 58;
    static final long SKIP = 1L << 59;

    // Lock bytes.
    static final long LOCK_PARTICIPANT = 1L << 40;
    static final long LOCK_PRODUCER = 1L << 41;
    static final long LOCK_CONSUMER = (1L << 41) + 1;

    private Format() {
    }

    /** The count that follows {@code r} give-backs. */
    static int nextDelivery(int r) {
        return r >= DELIVERIES_MASK ? DELIVERIES_WRAP : r + 1;
    }
}

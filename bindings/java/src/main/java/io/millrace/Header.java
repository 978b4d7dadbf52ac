package io.millrace;

import io.millrace.OpenException.Reason;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** A private, checked copy of a segment's header. */
public final class Header {
    private static final int CHECKED = 248;
    private static final int RESERVED_FROM = 172;

    private final String id;
    private final int flags;
    private final long segmentSize;
    private final long created;
    private final int backing;
    private final int huge;
    private final int kind;
    private final int policy;
    private final long slots;
    private final long slotSize;
    private final int entryStride;
    private final int participants;
    private final int maxDeliveries;
    private final int mode;
    private final long entriesOffset;
    private final long accountsOffset;
    private final long dataOffset;
    private final long start;
    private final int creatorPid;

    private Header(ByteBuffer b) {
        StringBuilder hex = new StringBuilder();
        for (int i = 40; i < 56; i++) {
            hex.append(String.format("%02x", b.get(i)));
        }
        id = hex.toString();
        flags = b.getInt(28);
        segmentSize = b.getLong(32);
        created = b.getLong(56);
        backing = b.getInt(64);
        huge = b.getInt(68);
        kind = b.getInt(72);
        policy = b.getInt(76);
        slots = b.getLong(80);
        slotSize = b.getLong(88);
        entryStride = b.getInt(96);
        participants = b.getInt(104);
        maxDeliveries = b.getInt(112);
        mode = b.getInt(116);
        entriesOffset = b.getLong(128);
        accountsOffset = b.getLong(136);
        dataOffset = b.getLong(144);
        start = b.getLong(160);
        creatorPid = b.getInt(168);
    }

    /**
     * Checks the first 4096 bytes of a file of {@code fileSize} bytes.
     *
     * @throws OpenException naming the first thing that does not match
     */
    static Header parse(ByteBuffer bytes, long fileSize) {
        ByteBuffer b = bytes.duplicate().order(ByteOrder.LITTLE_ENDIAN);
        check(fileSize >= Format.HEADER_SIZE && b.limit() >= Format.HEADER_SIZE, Reason.TOO_SHORT,
                "shorter than a header: " + fileSize + " bytes");
        check(b.getLong(0) == Format.MAGIC, Reason.BAD_MAGIC, "not a segment");
        check(b.getInt(8) == Format.BYTE_ORDER, Reason.BYTE_ORDER,
                String.format("byte order mark 0x%08x", b.getInt(8)));
        check(b.getInt(12) == Format.VERSION, Reason.VERSION,
                "version " + Integer.toUnsignedString(b.getInt(12)) + ", expected " + Format.VERSION);
        check(b.getLong(16) == Format.LAYOUT, Reason.LAYOUT,
                String.format("layout 0x%016x, expected 0x%016x", b.getLong(16), Format.LAYOUT));
        check(b.getLong(CHECKED) == XxHash64.hash(b, 0, CHECKED, 0), Reason.CHECKSUM, "wrong checksum");
        check(b.getInt(256) == 1, Reason.NOT_READY, "not ready");
        Header h = new Header(b);
        h.checkLimits(b);
        h.checkGeometry(b);
        check(h.backing != Format.BACKING_SYSV, Reason.UNSUPPORTED, "System V memory cannot be mapped from Java");
        check(fileSize >= h.segmentSize, Reason.TRUNCATED,
                "file of " + fileSize + " bytes, segment of " + h.segmentSize);
        return h;
    }

    private void checkLimits(ByteBuffer b) {
        limit((flags & ~Format.FLAG_TEMPORARY) == 0, "flags");
        limit(backing >= Format.BACKING_POSIX && backing <= Format.BACKING_MEMFD, "backing");
        limit(huge >= 0 && huge <= 3, "huge");
        limit(kind == Format.KIND_SPSC || kind == Format.KIND_MPMC, "kind");
        limit(policy == Format.POLICY_REDELIVER || policy == Format.POLICY_DROP, "policy");
        limit(slots >= 1 && slots <= Format.MAX_SLOTS && Long.bitCount(slots) == 1, "slots");
        limit(slotSize >= 1 && slotSize <= Format.MAX_SLOT_SIZE, "slot_size");
        limit(slots * slotSize <= Format.MAX_DATA_SIZE, "slots * slot_size");
        limit(entryStride >= 16 && entryStride <= 128 && Integer.bitCount(entryStride) == 1, "entry_stride");
        limit(participants >= 1 && participants <= Format.MAX_PARTICIPANTS, "participants");
        limit(maxDeliveries >= 0 && maxDeliveries <= Format.MAX_MAX_DELIVERIES, "max_deliveries");
        limit((mode & ~0777) == 0, "mode");
        limit(backing == Format.BACKING_SYSV || b.getLong(152) == 0, "sysv_key, sysv_id");
        for (int i = RESERVED_FROM; i < CHECKED; i++) {
            limit(b.get(i) == 0, "reserved byte " + i);
        }
    }

    private void checkGeometry(ByteBuffer b) {
        geometry(b.getInt(24) == Format.HEADER_SIZE, "header_size");
        geometry(b.getInt(100) == entryStride - 16, "inline_size");
        geometry(b.getInt(108) == Format.PARTICIPANT_STRIDE, "participant_stride");
        geometry(b.getLong(120) == Format.PARTICIPANTS, "participants_offset");
        long at = align(Format.PARTICIPANTS + (long) participants * Format.PARTICIPANT_STRIDE, Format.PAGE);
        geometry(entriesOffset == at, "entries_offset");
        at = align(at + slots * entryStride, Format.PAGE);
        geometry(accountsOffset == at, "accounts_offset");
        at = align(at + slots * 8, Format.PAGE);
        geometry(dataOffset == at, "data_offset");
        at += slots * slotSize;
        boolean size = switch (huge) {
            case 0 -> segmentSize == align(at, Format.PAGE);
            case 1 -> segmentSize == align(at, Format.PAGE) || segmentSize == align(at, 1L << 21);
            case 2 -> segmentSize == align(at, 1L << 21);
            default -> segmentSize == align(at, 1L << 30);
        };
        geometry(size, "segment_size");
    }

    private static long align(long value, long to) {
        return (value + to - 1) & -to;
    }

    private static void limit(boolean ok, String field) {
        check(ok, Reason.LIMITS, field + " is out of its limits");
    }

    private static void geometry(boolean ok, String field) {
        check(ok, Reason.GEOMETRY, field + " does not follow from the options");
    }

    private static void check(boolean ok, Reason reason, String message) {
        if (!ok) {
            throw new OpenException(reason, message);
        }
    }

    /** Identity of the segment, 32 hexadecimal digits. */
    public String id() {
        return id;
    }

    public boolean temporary() {
        return (flags & Format.FLAG_TEMPORARY) != 0;
    }

    public long segmentSize() {
        return segmentSize;
    }

    /** Nanoseconds since 1970. */
    public long created() {
        return created;
    }

    /** 1 POSIX, 2 System V, 3 memfd. */
    public int backing() {
        return backing;
    }

    public int huge() {
        return huge;
    }

    public boolean spsc() {
        return kind == Format.KIND_SPSC;
    }

    /** Whether messages of dead consumers are lost instead of given back. */
    public boolean drop() {
        return policy == Format.POLICY_DROP;
    }

    public long slots() {
        return slots;
    }

    public long slotSize() {
        return slotSize;
    }

    public int entryStride() {
        return entryStride;
    }

    public int inlineSize() {
        return entryStride - 16;
    }

    public int participants() {
        return participants;
    }

    /** 0: no limit. */
    public int maxDeliveries() {
        return maxDeliveries;
    }

    public int mode() {
        return mode;
    }

    public long entriesOffset() {
        return entriesOffset;
    }

    public long accountsOffset() {
        return accountsOffset;
    }

    public long dataOffset() {
        return dataOffset;
    }

    /** First position. */
    public long start() {
        return start;
    }

    public int creatorPid() {
        return creatorPid;
    }

    /** Bytes of the largest message of this ring. */
    public long maxMessage() {
        return slotSize * Math.max(1, slots / 2);
    }
}

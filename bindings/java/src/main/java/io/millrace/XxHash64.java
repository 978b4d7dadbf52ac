package io.millrace;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** XXH64, the checksum of the header. */
final class XxHash64 {
    private static final long P1 = 0x9E3779B185EBCA87L;
    private static final long P2 = 0xC2B2AE3D27D4EB4FL;
    private static final long P3 = 0x165667B19E3779F9L;
    private static final long P4 = 0x85EBCA77C2B2AE63L;
    private static final long P5 = 0x27D4EB2F165667C5L;

    private XxHash64() {
    }

    /** Hashes {@code length} bytes of {@code source} from index {@code at}. */
    static long hash(ByteBuffer source, int at, int length, long seed) {
        ByteBuffer b = source.duplicate().order(ByteOrder.LITTLE_ENDIAN);
        int i = at;
        int end = at + length;
        long h;
        if (length >= 32) {
            long v1 = seed + P1 + P2;
            long v2 = seed + P2;
            long v3 = seed;
            long v4 = seed - P1;
            for (; i + 32 <= end; i += 32) {
                v1 = round(v1, b.getLong(i));
                v2 = round(v2, b.getLong(i + 8));
                v3 = round(v3, b.getLong(i + 16));
                v4 = round(v4, b.getLong(i + 24));
            }
            h = Long.rotateLeft(v1, 1) + Long.rotateLeft(v2, 7) + Long.rotateLeft(v3, 12) + Long.rotateLeft(v4, 18);
            h = merge(merge(merge(merge(h, v1), v2), v3), v4);
        } else {
            h = seed + P5;
        }
        h += length;
        for (; i + 8 <= end; i += 8) {
            h = Long.rotateLeft(h ^ round(0, b.getLong(i)), 27) * P1 + P4;
        }
        if (i + 4 <= end) {
            h = Long.rotateLeft(h ^ (b.getInt(i) & 0xFFFFFFFFL) * P1, 23) * P2 + P3;
            i += 4;
        }
        for (; i < end; i++) {
            h = Long.rotateLeft(h ^ (b.get(i) & 0xFFL) * P5, 11) * P1;
        }
        h = (h ^ h >>> 33) * P2;
        h = (h ^ h >>> 29) * P3;
        return h ^ h >>> 32;
    }

    private static long round(long acc, long lane) {
        return Long.rotateLeft(acc + lane * P2, 31) * P1;
    }

    private static long merge(long h, long v) {
        return (h ^ round(0, v)) * P1 + P4;
    }
}

package io.millrace;

import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;

/**
 * A mapped segment, addressed by 64-bit offsets. A buffer reaches 2 GiB only, so the segment is mapped in windows that start
 * every GiB and overlap: anything up to half a GiB is contiguous in the window it starts in.
 */
final class Memory {
    private static final VarHandle LONG =
            MethodHandles.byteBufferViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle INT = MethodHandles.byteBufferViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
    private static final int SHIFT = 30;
    private static final long WINDOW = 1L << SHIFT;
    private static final int MASK = (1 << SHIFT) - 1;
    /** Largest piece that {@link #slice} can always hand out. */
    static final int MAX_SLICE = (int) (WINDOW / 2);

    private final ByteBuffer[] windows;

    Memory(FileChannel channel, long size, boolean writable) throws IOException {
        int n = (int) ((size + WINDOW - 1) >>> SHIFT);
        windows = new ByteBuffer[n];
        FileChannel.MapMode mode = writable ? FileChannel.MapMode.READ_WRITE : FileChannel.MapMode.READ_ONLY;
        for (int i = 0; i < n; i++) {
            long from = (long) i << SHIFT;
            windows[i] = channel.map(mode, from, Math.min(size - from, WINDOW + MAX_SLICE));
        }
    }

    private ByteBuffer window(long at) {
        return windows[(int) (at >>> SHIFT)];
    }

    private static int index(long at) {
        return (int) at & MASK;
    }

    long getLong(long at) {
        return (long) LONG.getOpaque(window(at), index(at));
    }

    long getLongAcquire(long at) {
        return (long) LONG.getAcquire(window(at), index(at));
    }

    long getLongVolatile(long at) {
        return (long) LONG.getVolatile(window(at), index(at));
    }

    void setLong(long at, long value) {
        LONG.setOpaque(window(at), index(at), value);
    }

    void setLongRelease(long at, long value) {
        LONG.setRelease(window(at), index(at), value);
    }

    boolean casLong(long at, long expected, long value) {
        return LONG.compareAndSet(window(at), index(at), expected, value);
    }

    void addLong(long at, long value) {
        LONG.getAndAdd(window(at), index(at), value);
    }

    int getInt(long at) {
        return (int) INT.getVolatile(window(at), index(at));
    }

    void setInt(long at, int value) {
        INT.setVolatile(window(at), index(at), value);
    }

    boolean casInt(long at, int expected, int value) {
        return INT.compareAndSet(window(at), index(at), expected, value);
    }

    void addInt(long at, int value) {
        INT.getAndAdd(window(at), index(at), value);
    }

    /** A view of {@code length} bytes. */
    ByteBuffer slice(long at, int length) {
        return window(at).slice(index(at), length);
    }

    void copyOut(long at, byte[] to) {
        for (int done = 0; done < to.length; ) {
            int n = Math.min(to.length - done, MAX_SLICE);
            window(at + done).get(index(at + done), to, done, n);
            done += n;
        }
    }

    void copyIn(long at, ByteBuffer from) {
        ByteBuffer source = from.duplicate();
        for (long to = at; source.hasRemaining(); ) {
            int n = Math.min(source.remaining(), MAX_SLICE);
            window(to).put(index(to), source, source.position(), n);
            source.position(source.position() + n);
            to += n;
        }
    }
}

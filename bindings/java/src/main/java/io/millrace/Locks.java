package io.millrace;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;

/**
 * Record locks on single bytes of the segment's file. They belong to the process as a whole, so callers must never ask about
 * a byte that this process holds.
 */
final class Locks {
    private final FileChannel channel;

    Locks(FileChannel channel) {
        this.channel = channel;
    }

    /** Takes the write lock, or returns null when anybody holds the byte. */
    FileLock own(long at) {
        return take(at, false);
    }

    /** Takes the read lock, which proves that nobody owns the byte; null when somebody does. */
    FileLock hold(long at) {
        return take(at, true);
    }

    private FileLock take(long at, boolean shared) {
        try {
            return channel.tryLock(at, 1, shared);
        } catch (OverlappingFileLockException e) {
            return null;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    static void release(FileLock lock) {
        if (lock == null) {
            return;
        }
        try {
            lock.release();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}

package io.millrace;

import io.millrace.OpenException.Reason;
import java.io.EOFException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * An open ring. All handles of one process on one file share one segment and one file descriptor: closing any other
 * descriptor of the file would end the record locks that prove this process alive.
 *
 * <p>Do not open the file of a ring by other means in a process that takes part in it.
 */
public final class Segment implements AutoCloseable {
    /** How far apart two looks must be for somebody to count as stalled. */
    private static final long STALL_MILLIS = 110;
    private static final Map<Object, Core> OPEN = new HashMap<>();

    /** What the handles of one process share. */
    static final class Core {
        final Object key;
        final Path path;
        final Header header;
        final Memory memory;
        final FileChannel channel;
        final Locks locks;
        final Ring ring;
        final Table table;
        final Recovery recovery;
        /** Ids and role bytes this process holds; guarded by the core's monitor. */
        final BitSet own = new BitSet();
        private int references;

        Core(Object key, Path path, Header header, Memory memory, FileChannel channel) {
            this.key = key;
            this.path = path;
            this.header = header;
            this.memory = memory;
            this.channel = channel;
            this.locks = channel == null ? null : new Locks(channel);
            this.ring = new Ring(header, memory);
            this.table = new Table(header, memory);
            this.recovery = new Recovery(this);
        }

        /**
         * Closes a descriptor of the file, an event that makes those look who sleep for long: they do not know yet that
         * somebody who cannot wake them is coming. Only while this process holds no lock on the file, since this ends them.
         */
        void announce() {
            if (!own.isEmpty()) {
                return;
            }
            try (FileChannel f = FileChannel.open(path, StandardOpenOption.READ, LinkOption.NOFOLLOW_LINKS)) {
                f.isOpen();
            } catch (IOException e) {
                // The name is gone: nobody else is coming, and those who are here will look in a quarter of a second.
            }
        }

        boolean removed() {
            return memory.getInt(Format.REMOVED) != 0;
        }
    }

    private final Core core;
    private boolean closed;

    private Segment(Core core) {
        this.core = core;
    }

    /** Opens the ring {@code name} in {@code $MILLRACE_DIR}, or in {@code /dev/shm}. */
    public static Segment open(String name) {
        return open(path(name));
    }

    /** Opens the ring in the file {@code path} in order to take part. */
    public static Segment open(Path path) {
        return open(path, true);
    }

    /** Opens the ring in the file {@code path} for looking only; read permission is enough. */
    public static Segment observe(Path path) {
        return open(path, false);
    }

    /** Where the ring {@code name} is; checks the name. */
    public static Path path(String name) {
        boolean ok = !name.isEmpty() && name.getBytes(java.nio.charset.StandardCharsets.UTF_8).length <= 200;
        for (int i = 0; ok && i < name.length(); i++) {
            char c = name.charAt(i);
            ok = c != '/' && c != '.' && !Character.isISOControl(c);
        }
        if (!ok) {
            throw new OpenException(Reason.BAD_NAME, "not the name of a ring: " + name);
        }
        String dir = System.getenv("MILLRACE_DIR");
        return Path.of(dir == null || dir.isEmpty() ? "/dev/shm" : dir, name);
    }

    private static Segment open(Path path, boolean writable) {
        synchronized (OPEN) {
            try {
                for (;;) {
                    Object key = inode(path);
                    Core core = OPEN.get(key);
                    if (core == null) {
                        core = map(key, path, writable);
                        if (!key.equals(inode(path))) {
                            if (core.channel != null) {
                                core.channel.close();
                            }
                            continue;
                        }
                        if (writable) {
                            OPEN.put(key, core);
                        }
                    }
                    core.references++;
                    return new Segment(core);
                }
            } catch (NoSuchFileException e) {
                throw new OpenException(Reason.NOT_FOUND, "no such ring: " + path);
            } catch (AccessDeniedException e) {
                throw new OpenException(Reason.PERMISSION, "permission denied: " + path);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    private static Object inode(Path path) throws IOException {
        BasicFileAttributes a =
                Files.readAttributes(path, BasicFileAttributes.class, LinkOption.NOFOLLOW_LINKS);
        if (!a.isRegularFile()) {
            throw new OpenException(Reason.NOT_REGULAR, "no regular file: " + path);
        }
        return a.fileKey();
    }

    /** A segment for looking has no channel once it is mapped: closing it later could end locks of this process. */
    private static Core map(Object key, Path path, boolean writable) throws IOException {
        FileChannel channel = writable
                ? FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE, LinkOption.NOFOLLOW_LINKS)
                : FileChannel.open(path, StandardOpenOption.READ, LinkOption.NOFOLLOW_LINKS);
        boolean keep = false;
        try {
            ByteBuffer first = ByteBuffer.allocate(Format.HEADER_SIZE);
            while (first.hasRemaining()) {
                if (channel.read(first, first.position()) < 0) {
                    break;
                }
            }
            first.flip();
            Header header = Header.parse(first, channel.size());
            Memory memory = new Memory(channel, header.segmentSize(), writable);
            keep = writable;
            return new Core(key, path, header, memory, keep ? channel : null);
        } catch (EOFException e) {
            throw new OpenException(Reason.TOO_SHORT, "shorter than a header: " + path);
        } finally {
            if (!keep) {
                channel.close();
            }
        }
    }

    public Header header() {
        return core.header;
    }

    /** A picture of the ring's state; the ring may change meanwhile. */
    public Snapshot snapshot() {
        return Snapshot.take(core);
    }

    /** Registers a producer. */
    public Producer producer() {
        Participant me = enter(true);
        return core.header.spsc() ? new SpscProducer(core, me) : new MpmcProducer(core, me);
    }

    /** Registers a consumer. */
    public Consumer consumer() {
        Participant me = enter(false);
        return core.header.spsc() ? new SpscConsumer(core, me) : new MpmcConsumer(core, me);
    }

    /** Recovers what dead participants left, and retires them; returns how many there were. */
    public int recover() {
        attached();
        return core.recovery.recoverDead();
    }

    /** How many sessions of that role are open and alive. */
    public int live(boolean producer) {
        attached();
        int n = 0;
        for (int id = 0; id < core.table.size; id++) {
            boolean open = producer ? core.table.producerOpen(id) : core.table.consumerOpen(id);
            n += open && core.recovery.alive(id) ? 1 : 0;
        }
        return n;
    }

    /** Participants with an open session, as {@code ID:ROLE:STATE}; whether somebody stands still takes a moment to see. */
    public List<String> who() {
        attached();
        long[] before = held();
        try {
            Thread.sleep(STALL_MILLIS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        long[] after = held();
        List<String> who = new ArrayList<>();
        for (int id = 0; id < core.table.size; id++) {
            if (core.table.open(id)) {
                boolean still = before[id] != 0 && before[id] == after[id];
                String state = !core.recovery.alive(id) ? "dead" : still ? "stalled" : "live";
                who.add(id + (core.table.producerOpen(id) ? ":producer:" : ":consumer:") + state);
            }
        }
        return who;
    }

    private long[] held() {
        long[] held = new long[core.table.size];
        for (int id = 0; id < held.length; id++) {
            held[id] = core.table.getLong(id, Format.HELD);
        }
        return held;
    }

    private Participant enter(boolean producer) {
        attached();
        if (core.removed()) {
            throw new RemovedException("the ring was removed");
        }
        return Participant.register(core, producer);
    }

    private void attached() {
        if (closed) {
            throw new IllegalStateException("closed");
        }
        if (core.channel == null) {
            throw new IllegalStateException("open for looking only");
        }
    }

    /** Detaches. Close producers and consumers first: what they still have open counts as left by a dead participant. */
    @Override
    public void close() {
        synchronized (OPEN) {
            if (closed) {
                return;
            }
            closed = true;
            if (--core.references == 0 && core.channel != null) {
                OPEN.remove(core.key);
                try {
                    core.channel.close();
                } catch (IOException e) {
                    throw new UncheckedIOException(e);
                }
            }
        }
    }
}

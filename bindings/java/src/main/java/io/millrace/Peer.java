package io.millrace;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** A program that does with a ring what a test tells it to, one command a line. */
public final class Peer {
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    private Segment ring;
    private boolean observing;
    private Producer producer;
    private Consumer consumer;
    private Reservation reservation;
    private int reserved;
    private Lease lease;
    private Message last;
    private Duration limit = Duration.ofSeconds(20);
    /** What a command that failed in part has done so far. */
    private long count;
    private List<String> items = new ArrayList<>();

    /** Ends a command with an error code. */
    private static final class Failure extends Exception {
        private static final long serialVersionUID = 1L;

        Failure(String code) {
            super(code, null, false, false);
        }
    }

    private Peer() {
    }

    public static void main(String[] args) throws IOException {
        Peer peer = new Peer();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null && !line.equals("exit"); ) {
            String answer = peer.answer(line.split(" "));
            if (answer != null) {
                OUT.println(answer);
                OUT.flush();
            }
        }
        Runtime.getRuntime().halt(0);
    }

    private String answer(String[] words) {
        count = 0;
        items = new ArrayList<>();
        try {
            String answer = run(words);
            return answer.isEmpty() ? "ok" : "ok " + answer;
        } catch (Ended e) {
            return null;
        } catch (Throwable e) {
            StringBuilder answer = new StringBuilder("err ").append(code(e)).append(' ').append(count);
            items.forEach(i -> answer.append(' ').append(i));
            return answer.toString();
        }
    }

    private static String code(Throwable e) {
        if (e instanceof Failure) {
            return e.getMessage();
        } else if (e instanceof OpenException o) {
            return switch (o.reason()) {
                case BAD_NAME -> "invalid";
                case NOT_FOUND -> "notexist";
                case PERMISSION -> "permission";
                case NOT_REGULAR, TOO_SHORT, BAD_MAGIC -> "notsegment";
                case BYTE_ORDER -> "byteorder";
                case VERSION -> "version";
                case LAYOUT, GEOMETRY -> "layout";
                case UNSUPPORTED -> "unsupported";
                default -> "corrupt";
            };
        } else if (e instanceof EndOfStreamException) {
            return "eof";
        } else if (e instanceof NobodyToReadException) {
            return "noconsumers";
        } else if (e instanceof StalledException) {
            return "stalled";
        } else if (e instanceof RemovedException) {
            return "closed";
        } else if (e instanceof RoleTakenException) {
            return "roletaken";
        } else if (e instanceof TableFullException) {
            return "toomany";
        } else if (e instanceof CorruptException) {
            return "corrupt";
        } else if (e instanceof MessageTooLargeException) {
            return "size";
        } else if (e instanceof IllegalStateException) {
            return "misuse";
        } else if (e instanceof NumberFormatException || e instanceof ArrayIndexOutOfBoundsException) {
            return "protocol";
        } else if (e instanceof IllegalArgumentException) {
            return "invalid";
        }
        System.err.println(e);
        return "system";
    }

    private String run(String[] w) throws Exception {
        switch (w[0]) {
            case "hello":
                return "java";
            case "timeout":
                long ms = Long.parseLong(w[1]);
                limit = ms == 0 ? null : Duration.ofMillis(ms);
                return "";
            case "open":
            case "observe":
                if (ring != null) {
                    throw new Failure("protocol");
                }
                observing = w[0].equals("observe");
                ring = observing ? Segment.observe(Segment.path(w[1])) : Segment.open(w[1]);
                return "";
            case "create":
            case "openorcreate":
            case "remove":
            case "fork":
                throw new Failure("unsupported");
            case "producer":
                need(ring);
                none(producer);
                producer = ring.producer();
                producer.waitForConsumers(w.length > 1 && w[1].equals("wait"));
                return "";
            case "consumer":
                need(ring);
                none(consumer);
                consumer = ring.consumer();
                options(w);
                return "";
            case "send":
            case "trysend":
                send(w, w[0].equals("send"));
                return Long.toString(count);
            case "sendbatch":
            case "trysendbatch":
                sendBatch(w, w[0].equals("sendbatch"));
                return Long.toString(count);
            case "reserve":
            case "tryreserve":
                return reserve(w, w[0].equals("reserve"));
            case "commit":
                need(reservation);
                reservation.commit(w.length > 1 ? Integer.parseInt(w[1]) : reserved);
                reservation = null;
                return "";
            case "discard":
                need(reservation);
                reservation.discard();
                reservation = null;
                return "";
            case "receive":
            case "tryreceive":
                for (long n = Long.parseLong(w[1]); n > 0; n--) {
                    show(receive(w[0].equals("receive")));
                }
                return counted();
            case "next":
            case "trynext":
                lease(1, w[0].equals("next"));
                return counted();
            case "nextbatch":
            case "trynextbatch":
                lease(Integer.parseInt(w[1]), w[0].equals("nextbatch"));
                return counted();
            case "release":
                need(lease);
                release(w.length > 1 ? Integer.parseInt(w[1]) : lease.size() - 1);
                return "";
            case "return":
                need(lease);
                if (w.length > 1 && Integer.parseInt(w[1]) != lease.held()) {
                    throw new Failure("misuse");
                }
                lease.giveBack();
                lease = null;
                return "";
            case "drain":
                return drain();
            case "pour":
                pour(w);
                return "";
            case "swallow":
                swallow(w);
                return "";
            case "hold":
                begin();
                Thread.sleep(Long.MAX_VALUE);
                return "";
            case "last":
                need(last);
                return Long.toUnsignedString(last.position()) + ' ' + last.deliveries();
            case "recover":
                need(ring);
                return Integer.toString(ring.recover());
            case "info":
                need(ring);
                return info(ring.header());
            case "stats":
                need(ring);
                return stats();
            case "who":
                need(ring);
                return String.join(" ", ring.who());
            case "close":
                close(w[1]);
                return "";
            default:
                throw new Failure("protocol");
        }
    }

    private static void need(Object handle) throws Failure {
        if (handle == null) {
            throw new Failure("protocol");
        }
    }

    private static void none(Object handle) throws Failure {
        if (handle != null) {
            throw new Failure("protocol");
        }
    }

    private void options(String[] w) throws Failure {
        for (int i = 1; i < w.length; i++) {
            if (w[i].equals("follow")) {
                consumer.follow(true);
            } else if (w[i].startsWith("grace=")) {
                consumer.grace(Duration.ofMillis(Long.parseLong(w[i].substring(6))));
            } else {
                throw new Failure("protocol");
            }
        }
    }

    private void send(String[] w, boolean wait) throws Exception {
        need(producer);
        long seed = Long.parseUnsignedLong(w[3]);
        long first = Long.parseUnsignedLong(w[4]);
        for (long n = Long.parseLong(w[1]); count < n; count++) {
            long seq = first + count;
            byte[] m = Content.make(seed, seq, Content.size(w[2], seq));
            if (!(wait ? producer.send(m, limit) : producer.trySend(m))) {
                throw new Failure(wait ? "timeout" : "full");
            }
        }
    }

    private void sendBatch(String[] w, boolean wait) throws Exception {
        need(producer);
        long seed = Long.parseUnsignedLong(w[3]);
        long first = Long.parseUnsignedLong(w[4]);
        int n = Integer.parseInt(w[1]);
        List<byte[]> all = new ArrayList<>();
        for (int i = 0; i < n; i++) {
            all.add(Content.make(seed, first + i, Content.size(w[2], first + i)));
        }
        count = wait ? producer.sendBatch(all, limit) : producer.trySendBatch(all);
        if (count < n) {
            throw new Failure(wait ? "timeout" : "full");
        }
    }

    private String reserve(String[] w, boolean wait) throws Exception {
        need(producer);
        none(reservation);
        long seq = Long.parseUnsignedLong(w[3]);
        reserved = Content.size(w[1], seq);
        reservation = wait ? producer.reserve(reserved, limit) : producer.tryReserve(reserved);
        if (reservation == null) {
            throw new Failure(wait ? "timeout" : "full");
        }
        reservation.buffer().put(Content.make(Long.parseUnsignedLong(w[2]), seq, reserved));
        return "";
    }

    private Message receive(boolean wait) throws Exception {
        need(consumer);
        Message m = wait ? consumer.receive(limit) : consumer.tryReceive();
        if (m == null) {
            throw new Failure(wait ? "timeout" : consumer.atEnd() ? "eof" : "empty");
        }
        last = m;
        return m;
    }

    private void show(Message m) throws Failure {
        show(m.position(), m.deliveries(), m.payload());
    }

    private void show(long position, int deliveries, byte[] payload) throws Failure {
        if (!Content.whole(payload)) {
            throw new Failure("torn");
        }
        count++;
        items.add(Long.toUnsignedString(position) + ':' + deliveries + ':' + payload.length + ':'
                + Long.toUnsignedString(Content.seed(payload)) + ':' + Long.toUnsignedString(Content.seq(payload)));
    }

    private String counted() {
        return (count + " " + String.join(" ", items)).trim();
    }

    private void lease(int max, boolean wait) throws Exception {
        need(consumer);
        none(lease);
        lease = wait ? consumer.next(max, limit) : consumer.tryNext(max);
        if (lease == null) {
            throw new Failure(wait ? "timeout" : consumer.atEnd() ? "eof" : "empty");
        }
        for (int i = 0; i < lease.size(); i++) {
            show(lease.get(i).position(), lease.get(i).deliveries(), lease.get(i).copy());
        }
    }

    private void release(int to) throws Failure {
        boolean whole = true;
        for (int i = lease.held(); i <= to && i < lease.size(); i++) {
            whole &= Content.whole(lease.get(i).copy());
        }
        lease.release(to);
        if (lease.held() == lease.size()) {
            lease = null;
        }
        if (!whole) {
            throw new Failure("torn");
        }
    }

    private String drain() throws Exception {
        need(consumer);
        Map<Long, long[]> streams = new TreeMap<>(Long::compareUnsigned);
        Map<Long, Long> latest = new TreeMap<>();
        long redelivered = 0;
        try {
            for (;;) {
                Message m = receive(true);
                if (!Content.whole(m.payload())) {
                    throw new Failure("torn");
                }
                count++;
                long seq = Content.seq(m.payload());
                long seed = Content.seed(m.payload());
                if (m.deliveries() > 1) {
                    redelivered++;
                } else {
                    Long before = latest.put(seed, seq);
                    if (before != null && Long.compareUnsigned(before, seq) >= 0) {
                        throw new Failure("order");
                    }
                }
                long[] s = streams.computeIfAbsent(seed, k -> new long[] {0, -1, 0, 0});
                s[0]++;
                s[1] = Long.compareUnsigned(seq, s[1]) < 0 ? seq : s[1];
                s[2] = Long.compareUnsigned(seq, s[2]) > 0 ? seq : s[2];
                s[3] += seq;
            }
        } catch (EndOfStreamException e) {
            StringBuilder answer = new StringBuilder().append(count).append(' ').append(redelivered);
            streams.forEach((seed, s) -> answer.append(' ').append(Long.toUnsignedString(seed)).append(':').append(s[0])
                    .append(':').append(Long.toUnsignedString(s[1])).append(':').append(Long.toUnsignedString(s[2]))
                    .append(':').append(Long.toUnsignedString(s[3])));
            return answer.toString();
        }
    }

    /** Answers before it begins, as the protocol wants it, and says later how it ended. */
    private static void begin() {
        OUT.println("ok");
        OUT.flush();
    }

    private void pour(String[] w) throws Exception {
        need(producer);
        long seed = Long.parseUnsignedLong(w[3]);
        long seq = Long.parseUnsignedLong(w[4]);
        long left = Long.parseUnsignedLong(w[5]);
        left = left == 0 ? -1 : left;
        MappedByteBuffer progress;
        try (FileChannel f = FileChannel.open(Path.of(w[6]), StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            progress = f.map(FileChannel.MapMode.READ_WRITE, 0, 8);
        }
        progress.order(ByteOrder.LITTLE_ENDIAN);
        begin();
        String end = "ok";
        try {
            while (left != 0) {
                int n = 1;
                byte[] m = Content.make(seed, seq, Content.size(w[2], seq));
                switch (w[1]) {
                    case "send" -> timely(producer.send(m, limit));
                    case "try" -> {
                        while (!producer.trySend(m)) {
                            Thread.onSpinWait();
                        }
                    }
                    case "reserve" -> {
                        Reservation r = producer.reserve(m.length, limit);
                        timely(r != null);
                        r.buffer().put(m);
                        r.commit();
                    }
                    case "batch" -> {
                        List<byte[]> all = new ArrayList<>();
                        for (int i = 0; i < 8 && i != left; i++) {
                            all.add(Content.make(seed, seq + i, Content.size(w[2], seq + i)));
                        }
                        n = producer.sendBatch(all, limit);
                        count += n == all.size() ? 0 : n;
                        timely(n == all.size());
                    }
                    default -> throw new Failure("protocol");
                }
                seq += n;
                count += n;
                left -= n;
                progress.putLong(0, count);
            }
        } catch (Exception e) {
            end = code(e);
        }
        finish(end);
    }

    private static void timely(boolean done) throws Failure {
        if (!done) {
            throw new Failure("timeout");
        }
    }

    private void finish(String end) {
        OUT.println("end " + end + " " + count);
        OUT.flush();
        throw new Ended();
    }

    /** Everything was answered already. */
    private static final class Ended extends RuntimeException {
        private static final long serialVersionUID = 1L;
    }

    private void swallow(String[] w) throws Exception {
        need(consumer);
        String end = "ok";
        try (FileChannel f = FileChannel.open(Path.of(w[2]), StandardOpenOption.WRITE, StandardOpenOption.CREATE,
                StandardOpenOption.APPEND)) {
            begin();
            for (;;) {
                switch (w[1]) {
                    case "receive" -> {
                        Message m = consumer.receive(limit);
                        timely(m != null);
                        record(f, m.payload(), m.deliveries());
                    }
                    case "try" -> {
                        Message m = consumer.tryReceive();
                        if (m != null) {
                            record(f, m.payload(), m.deliveries());
                        } else if (consumer.atEnd()) {
                            throw new Failure("eof");
                        }
                    }
                    case "next", "batch" -> {
                        Lease l = consumer.next(w[1].equals("next") ? 1 : 8, limit);
                        timely(l != null);
                        for (int i = 0; i < l.size(); i++) {
                            record(f, l.get(i).copy(), l.get(i).deliveries());
                        }
                        l.release();
                    }
                    default -> throw new Failure("protocol");
                }
            }
        } catch (Exception e) {
            end = code(e);
        }
        finish(end);
    }

    private void record(FileChannel f, byte[] m, int deliveries) throws Exception {
        if (!Content.whole(m)) {
            throw new Failure("torn");
        }
        ByteBuffer b = ByteBuffer.allocate(24).order(ByteOrder.LITTLE_ENDIAN);
        b.putLong(Content.seq(m)).putLong(Content.seed(m)).putLong(deliveries).flip();
        f.write(b);
        count++;
    }

    private static String info(Header h) {
        return String.format("kind=%s slots=%d slotsize=%d policy=%s maxdeliveries=%d participants=%d backing=%s maxmessage=%d",
                h.spsc() ? "spsc" : "mpmc", h.slots(), h.slotSize(), h.drop() ? "drop" : "redeliver", h.maxDeliveries(),
                h.participants(), h.backing() == Format.BACKING_POSIX ? "posix" : "memfd", h.maxMessage());
    }

    private String stats() throws Failure {
        if (observing) {
            throw new Failure("unsupported");
        }
        Snapshot s = ring.snapshot();
        long producers = ring.live(true);
        long consumers = ring.live(false);
        StringBuilder b = new StringBuilder();
        Object[] all = {"used", s.used(), "producer_position", s.producerPosition(), "consumer_position",
            s.consumerPosition(), "sent", s.sent(), "received", s.received(), "redelivered", s.redelivered(), "lost",
            s.lost(), "skipped", s.skipped(), "padding", s.padding(), "discarded", s.discarded(), "recoveries",
            s.recoveries(), "producers_ever", s.producersEver(), "producers_live", producers, "producers_died",
            s.producersDied() + s.producersOpen() - producers, "consumers_ever", s.consumersEver(), "consumers_live",
            consumers, "consumers_died", s.consumersDied() + s.consumersOpen() - consumers};
        for (int i = 0; i < all.length; i += 2) {
            b.append(i == 0 ? "" : " ").append(all[i]).append('=').append(Long.toUnsignedString((Long) all[i + 1]));
        }
        return b.toString();
    }

    private void close(String what) throws Failure {
        switch (what) {
            case "producer" -> {
                need(producer);
                producer.close();
                producer = null;
                reservation = null;
            }
            case "consumer" -> {
                need(consumer);
                consumer.close();
                consumer = null;
                lease = null;
            }
            case "ring" -> {
                need(ring);
                ring.close();
                ring = null;
                producer = null;
                consumer = null;
                reservation = null;
                lease = null;
            }
            default -> throw new Failure("protocol");
        }
    }

    /** The messages of the tests. */
    private static final class Content {
        private Content() {
        }

        static int size(String size, long seq) {
            int dots = size.indexOf("..");
            if (dots < 0) {
                return Integer.parseInt(size);
            }
            long a = Long.parseLong(size.substring(0, dots));
            long b = Long.parseLong(size.substring(dots + 2));
            return (int) (a + Long.remainderUnsigned(seq * 7919, b - a + 1));
        }

        static byte[] make(long seed, long seq, int size) {
            ByteBuffer b = ByteBuffer.allocate(size + 8).order(ByteOrder.LITTLE_ENDIAN);
            long x = (seed ^ seq * 0x9E3779B97F4A7C15L) | 1;
            for (int at = 0; at < size; at += 8) {
                if (at < 16) {
                    b.putLong(at, at == 0 ? seq : seed);
                } else {
                    x ^= x << 13;
                    x ^= x >>> 7;
                    x ^= x << 17;
                    b.putLong(at, x);
                }
            }
            return Arrays.copyOf(b.array(), size);
        }

        private static long word(byte[] m, int at) {
            long w = 0;
            for (int i = 0; i < 8 && at + i < m.length; i++) {
                w |= (m[at + i] & 255L) << 8 * i;
            }
            return w;
        }

        static long seq(byte[] m) {
            return word(m, 0);
        }

        static long seed(byte[] m) {
            return word(m, 8);
        }

        static boolean whole(byte[] m) {
            return m.length <= 16 || Arrays.equals(m, make(seed(m), seq(m), m.length));
        }
    }
}

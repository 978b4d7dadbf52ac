package io.millrace;

import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;

/**
 * Sends what it reads from standard input, one message a line or with the length before each.
 * Usage: {@code Send [--length-prefix] [--reserve] [--wait] [--timeout MS] RING}.
 */
public final class Send {
    private Send() {
    }

    public static void main(String[] args) throws Exception {
        boolean prefix = false;
        boolean reserve = false;
        boolean wait = false;
        Duration limit = null;
        Deque<String> words = new ArrayDeque<>(Arrays.asList(args));
        while (words.size() > 1) {
            switch (words.pop()) {
                case "--length-prefix" -> prefix = true;
                case "--reserve" -> reserve = true;
                case "--wait" -> wait = true;
                case "--timeout" -> limit = Duration.ofMillis(Long.parseLong(words.pop()));
                default -> usage();
            }
        }
        if (words.isEmpty()) {
            usage();
        }
        String name = words.pop();
        InputStream in = new BufferedInputStream(System.in, 1 << 16);
        long sent = 0;
        int status = 0;
        try (Segment ring = name.contains("/") ? Segment.open(Path.of(name)) : Segment.open(name);
                Producer producer = ring.producer()) {
            producer.waitForConsumers(wait);
            for (byte[] m; status == 0 && (m = prefix ? prefixed(in) : line(in)) != null; ) {
                boolean done;
                if (reserve) {
                    Reservation r = producer.reserve(m.length, limit);
                    done = r != null;
                    if (done) {
                        r.buffer().put(m);
                        r.commit();
                    }
                } else {
                    done = producer.send(m, limit);
                }
                sent += done ? 1 : 0;
                status = done ? 0 : 4;
            }
            System.err.println(sent + " messages" + (status == 0 ? "" : "; timed out"));
        } catch (MillraceException e) {
            System.err.println(sent + " messages; " + e);
            status = e instanceof OpenException || e instanceof CorruptException ? 5 : 6;
        }
        System.exit(status);
    }

    private static byte[] line(InputStream in) throws IOException {
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        int c;
        while ((c = in.read()) >= 0 && c != '\n') {
            line.write(c);
        }
        return c < 0 && line.size() == 0 ? null : line.toByteArray();
    }

    private static byte[] prefixed(InputStream in) throws IOException {
        byte[] n = in.readNBytes(4);
        if (n.length < 4) {
            return null;
        }
        int length = n[0] & 255 | (n[1] & 255) << 8 | (n[2] & 255) << 16 | (n[3] & 255) << 24;
        byte[] m = new byte[length];
        new DataInputStream(in).readFully(m);
        return m;
    }

    private static void usage() {
        System.err.println("usage: Send [--length-prefix] [--reserve] [--wait] [--timeout MS] RING");
        System.exit(2);
    }
}

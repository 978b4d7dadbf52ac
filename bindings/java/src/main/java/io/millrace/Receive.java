package io.millrace;

import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Deque;

/**
 * Writes the messages of a ring to standard output, one a line or with their length before each.
 * Usage: {@code Receive [--length-prefix] [--lease MAX] [--count N] [--timeout MS] RING}.
 */
public final class Receive {
    private Receive() {
    }

    public static void main(String[] args) throws Exception {
        boolean prefix = false;
        int lease = 0;
        long count = Long.MAX_VALUE;
        Duration limit = null;
        Deque<String> words = new ArrayDeque<>(Arrays.asList(args));
        while (words.size() > 1) {
            switch (words.pop()) {
                case "--length-prefix" -> prefix = true;
                case "--lease" -> lease = Integer.parseInt(words.pop());
                case "--count" -> count = Long.parseLong(words.pop());
                case "--timeout" -> limit = Duration.ofMillis(Long.parseLong(words.pop()));
                default -> usage();
            }
        }
        if (words.isEmpty()) {
            usage();
        }
        String name = words.pop();
        OutputStream out = new BufferedOutputStream(System.out, 1 << 16);
        long received = 0;
        try (Segment ring = name.contains("/") ? Segment.open(Path.of(name)) : Segment.open(name);
                Consumer consumer = ring.consumer()) {
            while (received < count) {
                if (lease == 0) {
                    Message m = consumer.receive(limit);
                    if (m == null) {
                        break;
                    }
                    write(out, m.payload(), prefix);
                    received++;
                } else {
                    try (Lease l = consumer.next((int) Math.min(lease, count - received), limit)) {
                        if (l == null) {
                            break;
                        }
                        for (int i = 0; i < l.size(); i++) {
                            write(out, l.get(i).copy(), prefix);
                        }
                        out.flush();
                        received += l.size();
                    }
                }
                out.flush();
            }
            System.err.println(received + " messages");
        } catch (EndOfStreamException e) {
            System.err.println(received + " messages; " + e.getMessage());
            System.exit(e.producerDied() ? 6 : 0);
        } catch (MillraceException e) {
            System.err.println(received + " messages; " + e);
            System.exit(e instanceof OpenException || e instanceof CorruptException ? 5 : 6);
        }
    }

    private static void write(OutputStream out, byte[] m, boolean prefix) throws IOException {
        if (prefix) {
            int n = m.length;
            out.write(new byte[] {(byte) n, (byte) (n >> 8), (byte) (n >> 16), (byte) (n >> 24)});
        }
        out.write(m);
        if (!prefix) {
            out.write('\n');
        }
    }

    private static void usage() {
        System.err.println("usage: Receive [--length-prefix] [--lease MAX] [--count N] [--timeout MS] RING");
        System.exit(2);
    }
}

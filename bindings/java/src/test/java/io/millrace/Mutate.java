package io.millrace;

import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;

/** Damages golden segments at random and uses them: every call must end, with a message, a time-out or a typed error. */
public final class Mutate {
    private Mutate() {
    }

    public static void main(String[] args) throws Exception {
        List<Path> golden;
        try (var files = Files.list(Path.of(args[0]))) {
            golden = files.filter(f -> f.toString().endsWith(".bin") && !f.toString().contains("refused")
                    && !f.toString().contains("anchor")).sorted().toList();
        }
        Random random = new Random(Long.parseLong(args[2]));
        Map<String, Integer> outcomes = new TreeMap<>();
        for (int i = 0; i < Integer.parseInt(args[1]); i++) {
            byte[] b = Files.readAllBytes(golden.get(random.nextInt(golden.size())));
            for (int n = 1 + random.nextInt(4); n > 0; n--) {
                int area = random.nextInt(4);
                int at = area == 0 ? 4096 + 8 * random.nextInt(100) : area == 1 ? 8192 + 4 * random.nextInt(192)
                        : area == 2 ? 16384 + 8 * random.nextInt(8) : 12288 + 8 * random.nextInt(32);
                if (random.nextBoolean()) {
                    b[at + random.nextInt(4)] ^= (byte) (1 << random.nextInt(8));
                } else {
                    b[at + random.nextInt(4)] = (byte) random.nextInt(256);
                }
            }
            Path q = Files.createTempFile("q", "");
            Files.write(q, b);
            long start = System.nanoTime();
            String outcome;
            try (Segment s = Segment.open(q)) {
                s.snapshot();
                outcome = consume(s, random.nextBoolean()) + ", " + produce(s);
            } catch (Throwable e) {
                outcome = e.getClass().getSimpleName();
                if (!(e instanceof MillraceException)) {
                    e.printStackTrace();
                }
            }
            if (System.nanoTime() - start > 2_000_000_000L) {
                outcome += " SLOW";
            }
            outcomes.merge(outcome, 1, Integer::sum);
            Files.delete(q);
        }
        outcomes.forEach((k, v) -> System.out.println(v + " " + k));
    }

    private static String consume(Segment s, boolean lease) throws Exception {
        try (Consumer c = s.consumer()) {
            for (int n = 0; n < 50; n++) {
                if (lease) {
                    Lease l = c.next(3, Duration.ofMillis(5));
                    if (l == null) {
                        return "timeout";
                    }
                    if (n % 3 == 0) {
                        l.giveBack();
                    } else {
                        l.release();
                    }
                } else if (c.receive(Duration.ofMillis(5)) == null) {
                    return "timeout";
                }
            }
            return "many";
        } catch (MillraceException e) {
            return e.getClass().getSimpleName();
        }
    }

    private static String produce(Segment s) throws Exception {
        try (Producer p = s.producer()) {
            for (int n = 0; n < 9; n++) {
                if (!p.send(new byte[n * 5], Duration.ofMillis(3))) {
                    return "full";
                }
            }
            return "sent";
        } catch (MillraceException e) {
            return e.getClass().getSimpleName();
        }
    }
}

package io.millrace;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.StringJoiner;

/** Prints as JSON what a golden segment's description says every reader must find. Takes a copy: it recovers and receives. */
public final class GoldenDump {
    private static final String[] CONTROL = {"producer_position", "reserved_position", "consumer_position", "lease_end",
        "journal", "run_end", "run_length", "space_position", "returns", "not_empty", "not_full", "typed", "recoveries"};
    private static final long[] CONTROL_AT = {Format.PRODUCER_POSITION, Format.RESERVED_POSITION,
        Format.CONSUMER_POSITION, Format.LEASE_END, Format.JOURNAL, Format.RUN_END, Format.RUN_LENGTH,
        Format.SPACE_POSITION, Format.RETURNS, Format.NOT_EMPTY, Format.NOT_FULL, Format.TYPED, Format.RECOVERIES};
    private static final String[] P32 = {"producer_registered", "producer_closed", "producer_died",
        "consumer_registered", "consumer_closed", "consumer_died", "pid", "publish"};
    private static final String[] P64 = {"since", "ended", null, null, "held", "sent", "received", "redelivered",
        "padding", "discarded", "sleeps", "wakes"};

    private GoldenDump() {
    }

    public static void main(String[] args) throws Exception {
        Path path = Path.of(args[0]);
        StringJoiner out = new StringJoiner(",", "{", "}");
        Segment look;
        try {
            look = Segment.observe(path);
        } catch (OpenException e) {
            boolean anchor = e.reason() == OpenException.Reason.UNSUPPORTED;
            out.add(anchor ? "\"unsupported\":1" : "\"refused\":\"" + e.reason() + "\"");
            out.add("\"message\":\"" + e.getMessage() + "\"");
            System.out.println(out);
            return;
        }
        Header h = look.header();
        ByteBuffer b = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.LITTLE_ENDIAN);
        Memory m = new Memory(java.nio.channels.FileChannel.open(path), h.segmentSize(), false);
        out.add("\"id\":\"" + h.id() + "\"");
        out.add("\"header\":" + header(h));
        out.add("\"control\":" + control(m));
        out.add("\"participants\":" + participants(h, m));
        out.add("\"entries\":" + entries(h, new Ring(h, m)));
        out.add("\"accounts\":" + accounts(h, m));
        out.add("\"snapshot\":\"" + look.snapshot() + "\"");
        b.clear();
        look.close();
        List<String> got = new ArrayList<>();
        String end;
        try (Segment s = Segment.open(path)) {
            try (Consumer c = s.consumer()) {
                s.recover();
                for (;;) {
                    Message x;
                    if (args.length > 1) {
                        Lease l = c.next(Integer.parseInt(args[1]), java.time.Duration.ofMillis(200));
                        if (l == null) {
                            end = "waiting";
                            break;
                        }
                        for (int i = 0; i < l.size(); i++) {
                            got.add(message(l.get(i).position(), l.get(i).deliveries(), l.get(i).copy()));
                            l.release(i);
                        }
                        continue;
                    }
                    x = c.receive(java.time.Duration.ofMillis(200));
                    if (x == null) {
                        end = "waiting";
                        break;
                    }
                    got.add(message(x.position(), x.deliveries(), x.payload()));
                }
            } catch (EndOfStreamException e) {
                end = "eof";
            } catch (RemovedException e) {
                end = "removed";
            }
            Snapshot after = s.snapshot();
            out.add("\"receive\":" + got);
            out.add("\"end\":\"" + end + "\"");
            out.add("\"after\":{\"lost\":" + after.lost() + ",\"skipped\":" + after.skipped() + "}");
        }
        System.out.println(out);
    }

    private static String message(long position, int deliveries, byte[] payload) {
        return "{\"position\":" + u(position) + ",\"deliveries\":" + deliveries + ",\"payload\":\""
                + HexFormat.of().formatHex(payload) + "\"}";
    }

    private static String u(long v) {
        return Long.toUnsignedString(v);
    }

    private static String header(Header h) {
        return String.format("{\"slots\":%d,\"slot_size\":%d,\"entry_stride\":%d,\"inline_size\":%d,\"participants\":%d,"
                + "\"max_deliveries\":%d,\"mode\":%d,\"segment_size\":%d,\"start\":%s,\"created\":%s,\"creator_pid\":%d,"
                + "\"huge\":%d,\"kind\":%d,\"policy\":%d,\"backing\":%d,\"flags\":%d,\"entries_offset\":%d,"
                + "\"accounts_offset\":%d,\"data_offset\":%d}", h.slots(), h.slotSize(), h.entryStride(), h.inlineSize(),
                h.participants(), h.maxDeliveries(), h.mode(), h.segmentSize(), u(h.start()), u(h.created()),
                h.creatorPid(), h.huge(), h.spsc() ? 1 : 2, h.drop() ? 2 : 1, h.backing(), h.temporary() ? 1 : 0,
                h.entriesOffset(), h.accountsOffset(), h.dataOffset());
    }

    private static String control(Memory m) {
        StringJoiner j = new StringJoiner(",", "{", "}");
        for (int i = 0; i < CONTROL.length; i++) {
            j.add("\"" + CONTROL[i] + "\":" + u(m.getLong(CONTROL_AT[i])));
        }
        j.add("\"roster\":" + Integer.toUnsignedString(m.getInt(Format.ROSTER)));
        return j.add("\"removed\":" + Integer.toUnsignedString(m.getInt(Format.REMOVED))).toString();
    }

    private static String participants(Header h, Memory m) {
        Table t = new Table(h, m);
        StringJoiner all = new StringJoiner(",", "[", "]");
        for (int id = 0; id < h.participants(); id++) {
            if (t.getInt(id, 0) == 0 && t.getInt(id, 12) == 0) {
                continue;
            }
            StringJoiner j = new StringJoiner(",", "{", "}");
            j.add("\"id\":" + id);
            for (int i = 0; i < P32.length; i++) {
                j.add("\"" + P32[i] + "\":" + Integer.toUnsignedString(t.getInt(id, i * 4)));
            }
            for (int i = 0; i < P64.length; i++) {
                if (P64[i] != null) {
                    j.add("\"" + P64[i] + "\":" + u(t.getLong(id, 32 + i * 8)));
                }
            }
            j.add("\"open\":\"" + (t.producerOpen(id) ? "producer" : t.consumerOpen(id) ? "consumer" : "none") + "\"");
            all.add(j.toString());
        }
        return all.toString();
    }

    private static String entries(Header h, Ring r) {
        StringJoiner all = new StringJoiner(",", "[", "]");
        for (long i = 0; i < r.slots; i++) {
            long w = r.state(i);
            long l = r.lengthWord(i);
            StringJoiner j = new StringJoiner(",", "{", "}");
            j.add("\"slot\":" + i).add("\"state\":" + u(w)).add("\"length\":" + u(l));
            int s = Words.state(w);
            j.add("\"kind\":\"" + switch (s) {
                case Format.FREE -> "free";
                case Format.CLAIMED -> "claimed";
                case Format.DONE -> "done";
                case Format.READY -> "ready";
                case Format.TAKEN -> "taken";
                default -> "none";
            } + "\"");
            if (s == 0) {
                j.add("\"position\":0").add("\"sequence\":0").add("\"given_back\":0");
            } else if (h.spsc()) {
                long e = w >>> 8;
                j.add("\"sequence\":" + e).add("\"position\":" + (e - 1 - (e - 1 - i & r.mask) & (1L << 56) - 1));
                j.add("\"given_back\":" + Words.deliveries(w));
            } else {
                long m44 = (1L << 44) - 1;
                j.add("\"sequence\":" + (w >>> 20)).add("\"position\":" + (Words.head(w, i, i, r.mask) & m44));
                j.add("\"owner\":" + Words.owner(w));
                j.add("\"given_back\":" + (s >= Format.READY ? Words.deliveries(w) : 0));
            }
            j.add("\"bytes\":" + (l & Format.LENGTH_MASK));
            StringJoiner f = new StringJoiner(",", "[", "]");
            String[] names = {"inline", "run", "pad", "skip"};
            for (int k = 0; k < 4; k++) {
                if ((l >>> 56 + k & 1) != 0) {
                    f.add("\"" + names[k] + "\"");
                }
            }
            all.add(j.add("\"length_flags\":" + f).toString());
        }
        return all.toString();
    }

    private static String accounts(Header h, Memory m) {
        StringJoiner all = new StringJoiner(",", "[", "]");
        for (long i = 0; i < h.slots(); i++) {
            long a = m.getLong(h.accountsOffset() + i * 8);
            if (a != 0) {
                all.add("{\"slot\":" + i + ",\"tag\":" + (a >>> 40) + ",\"lost\":" + (a >>> 20 & 0xFFFFF)
                        + ",\"skipped\":" + (a & 0xFFFFF) + "}");
            }
        }
        return all.toString();
    }
}

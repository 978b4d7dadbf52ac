package main

import (
	"context"
	"time"

	"github.com/cd1900cf/millrace/cmd/millrace/internal/bench"
	"github.com/cd1900cf/millrace/ring"
)

var benchCommand = &command{
	name: "bench", operands: "throughput|latency|wake|recover", summary: "measure rings between processes on this machine", changes: true,
	detail: "throughput: messages as fast as they go. latency: messages at a fixed --rate, each measured from the time at which it was due.\n" +
		"wake: round trips between two processes that sleep. recover: the time from SIGKILL of a participant that holds something\n" +
		"to the next message for those behind it. Each round begins with the floor, the round trip of one cache line, without\n" +
		"which no figure of two machines, or of two minutes, can be compared. The rings are its own.",
	new: func(f *flags) runner {
		f.withDir()
		c := bench.Config{Kind: ring.SPSC, Size: 64, Batch: 1, Slots: 1024, Producers: 1, Consumers: 1, Rate: 100_000, Duration: 2 * time.Second, Rounds: 10}
		var unpinned, jsonOut bool
		choice(f, &c.Kind, "kind", "default spsc; recover: always mpmc", []string{"spsc", "mpmc"}, ring.SPSC, ring.MPMC)
		f.size(&c.Size, "size", "bytes of a message; default 64, at least 8")
		f.number(&c.Batch, "batch", "throughput: messages at once; default 1")
		f.number(&c.Slots, "slots", "a power of two; default 1024")
		f.number(&c.Producers, "producers", "throughput, with mpmc: default 1")
		f.number(&c.Consumers, "consumers", "throughput, with mpmc: default 1")
		f.number(&c.Rate, "rate", "latency: messages a second; default 100000")
		f.number(&c.Rounds, "rounds", "default 10")
		f.duration(&c.Duration, "duration", "of all rounds together; default 2s")
		f.toggle(&unpinned, "unpinned", "let the scheduler place the processes")
		f.toggle(&jsonOut, "j json", "the result as one JSON object")
		return func(ctx context.Context, a *app, operands []string) error {
			if err := checkBench(&c, operands); err != nil {
				return err
			}
			c.Pinned = !unpinned && c.Producers == 1 && c.Consumers == 1 && c.What != bench.Recover
			c.Dir = dirOf(a)
			result, err := bench.Run(ctx, c)
			switch {
			case err != nil:
				return err
			case jsonOut:
				return writeJSON(a.stdout, result)
			}
			return result.Print(a.stdout)
		}
	},
}

// checkBench checks operands and flags against each other.
func checkBench(c *bench.Config, operands []string) error {
	if len(operands) != 1 {
		return usagef("what to measure is missing: throughput, latency, wake or recover")
	}
	switch c.What = operands[0]; c.What {
	case bench.Throughput:
	case bench.Latency, bench.Wake:
		if c.Producers != 1 || c.Consumers != 1 || c.Batch != 1 {
			return usagef("%s has one producer and one consumer and no batches", c.What)
		}
	case bench.Recover:
		c.Kind, c.Producers, c.Consumers, c.Batch = ring.MPMC, 2, 2, 1
	default:
		return usagef("no such measurement: %q; want throughput, latency, wake or recover", c.What)
	}
	const most = 200
	switch {
	case c.Size < 8:
		return usagef("--size: at least 8, for the time that a message carries")
	case c.Slots < 1 || c.Slots&(c.Slots-1) != 0:
		return usagef("--slots: a power of two")
	case c.Batch < 1 || c.Rounds < 1 || c.Rate < 1 || c.Duration < time.Duration(c.Rounds)*time.Millisecond:
		return usagef("--batch, --rounds and --rate: at least 1; --duration: at least a millisecond for each round")
	case c.Producers < 1 || c.Consumers < 1 || c.Producers > most || c.Consumers > most:
		return usagef("--producers and --consumers: 1 to %d", most)
	case c.Kind == ring.SPSC && (c.Producers > 1 || c.Consumers > 1):
		return usagef("an spsc ring has one producer and one consumer; add --kind mpmc")
	}
	return nil
}

var benchWorkerCommand = &command{
	name: bench.WorkerVerb, summary: "one process of a measurement", hidden: true,
	new: func(*flags) runner {
		return func(_ context.Context, _ *app, operands []string) error { return bench.Work(operands) }
	},
}

var benchFloorCommand = &command{
	name: bench.FloorVerb, summary: "the other end of the floor", hidden: true,
	new: func(*flags) runner {
		return func(_ context.Context, _ *app, operands []string) error { return bench.ServeFloor(operands) }
	},
}

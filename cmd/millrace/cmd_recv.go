package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

const (
	// recvBatch is how many messages are leased, and written by one system call, at most. What is leased is not received by
	// anybody else meanwhile, so it is not more.
	recvBatch = 64
	// lookForRing is how often --wait looks whether the ring is there.
	lookForRing = 20 * time.Millisecond
	// removePatience is how long the last receiver waits for others to detach from a temporary ring.
	removePatience = 2 * time.Second
)

var recvCommand = &command{
	name: "recv", operands: "NAME", summary: "receive, and write to standard output", takesName: true, changes: true,
	detail: "Ends at the end of the stream: when a producer was there, none is left, and everything is received. A message is released\n" +
		"when it has been written, so nothing is lost when recv is interrupted. The recv that reaches the end of a temporary ring\n" +
		"(send --create) as the last one attached removes it. When a producer died, recv writes everything and ends with code 6.",
	new: func(f *flags) runner {
		f.withDir()
		r := &receiving{}
		var pf printFlags
		f.toggle(&r.wait, "wait", "wait for the ring to be made")
		pf.register(f)
		f.number(&r.count, "n count", "end after N messages; code 4 when there are fewer")
		f.toggle(&r.untilEmpty, "e exit-on-empty", "end when the ring is empty")
		f.toggle(&r.follow, "follow", "go on at the end of the stream: wait for further producers")
		f.duration(&r.timeout, "timeout", "end with code 4 when nothing came for D")
		f.duration(&r.grace, "grace", "when the last producer died, wait D for a successor")
		return func(ctx context.Context, a *app, operands []string) (err error) {
			r.app = a
			if r.name, err = oneName(operands); err != nil {
				return err
			}
			if r.follow && r.untilEmpty {
				return usagef("--follow and -e exclude each other")
			}
			if r.print, err = pf.printer(f); err != nil {
				return err
			}
			r.counted = f.given("n") || f.given("count")
			return r.run(ctx)
		}
	},
}

// receiving is one run of recv.
type receiving struct {
	*app
	name                     string
	print                    printer
	wait, untilEmpty, follow bool
	counted                  bool
	count                    int
	timeout, grace           time.Duration

	ring     *ring.Ring
	consumer *ring.Consumer
	got      int
	ended    bool // the end of the stream was reached
	out      []byte
	ends     []int // where each message of the batch ends in out

	mu    sync.Mutex // held while the batch below is worked on, but not while it is written
	batch ring.Batch
	next  int // first message of the batch that is not written
}

func (r *receiving) run(ctx context.Context) (err error) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a write to a closed pipe returns EPIPE and does not kill
	if r.ring, err = r.open(ctx); err != nil {
		return err
	}
	settled := r.settledDeaths()
	opts := []ring.ConsumerOption{ring.Grace(r.grace)}
	if r.follow {
		opts = append(opts, ring.Follow())
	}
	if r.consumer, err = r.ring.NewConsumer(opts...); err != nil {
		return errors.Join(err, r.ring.Close())
	}
	r.onAbandon(r.giveBack)
	err = r.receive(ctx)

	stats := r.ring.Stats()
	over := stats.ProducersEver > 0 && stats.ProducersLive == 0 // also when -n or -e ended it just there
	died := stats.ProducersDied - min(settled, stats.ProducersDied)
	temporary := r.ring.Options().Temporary
	if e := r.ring.Close(); err == nil {
		err = e
	}
	if over && temporary && !errors.Is(err, context.Canceled) {
		r.remove()
	}
	if r.ended && died > 0 && (err == nil || errors.Is(err, errTooFew)) {
		return failf(exitPeer, "%d of the producers died without closing: everything they committed is written (%d messages), but the stream may be cut short; send the rest again",
			died, r.got)
	}
	return err
}

// errTooFew says that the stream ended before -n messages were there.
var errTooFew = errors.New("too few")

// open opens the ring, or waits for it with --wait.
func (r *receiving) open(ctx context.Context) (*ring.Ring, error) {
	if !r.wait {
		opened, err := ring.Open(r.name, ring.WithDir(r.dir))
		return opened, notFound(r.app, r.name, nextWait, err)
	}
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	opened, err := openWait(ctx, r.app, r.name)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, failf(exitBlocked, "nobody made the ring within %v; start a send --create, or wait longer", r.timeout)
	}
	return opened, err
}

// openWait opens a ring as soon as there is one.
func openWait(ctx context.Context, a *app, name string) (*ring.Ring, error) {
	for {
		r, err := ring.Open(name, ring.WithDir(a.dir))
		if !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
		if err := sleep(ctx, lookForRing); err != nil {
			return nil, err
		}
	}
}

// settledDeaths returns how many producers' deaths are none of this receiver's business. A temporary ring is one stream: all of
// them are. Of another ring, those that somebody noticed and settled before are not.
func (r *receiving) settledDeaths() uint64 {
	if r.ring.Options().Temporary {
		return 0
	}
	died := r.ring.Stats().ProducersDied
	for _, p := range r.ring.Participants() {
		if p.Role == ring.ProducerRole && p.State == ring.Dead && died > 0 {
			died--
		}
	}
	return died
}

// remove removes the temporary ring, unless somebody uses it, has sent something meanwhile or was faster. Whoever has it open
// without a registration is on its way out, like the sender whose close was the end of the stream, or on its way in: that is
// waited for.
func (r *receiving) remove() {
	for end := time.Now().Add(removePatience); ; time.Sleep(time.Millisecond) {
		err := ring.Remove(r.name, ring.WithDir(r.dir), ring.IfDrained())
		switch {
		case errors.Is(err, ring.ErrInUse):
			if time.Now().Before(end) && !r.used() {
				continue
			}
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			r.warn("the temporary ring stays: %v", err)
		}
		return
	}
}

// used says whether somebody is registered with the ring, or a message is in it.
func (r *receiving) used() bool {
	seen, err := ring.Open(r.name, ring.WithDir(r.dir), ring.ReadOnly())
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer seen.Close()
	s := seen.Stats()
	return s.ProducersLive > 0 || s.ConsumersLive > 0 || s.Used > 0
}

// receive writes messages until the end.
func (r *receiving) receive(ctx context.Context) error {
	for !r.counted || r.got < r.count {
		if err := ctx.Err(); err != nil {
			return err
		}
		limit := recvBatch
		if r.counted {
			limit = min(limit, r.count-r.got)
		}
		b, err := r.take(ctx, limit)
		if err == nil {
			err = r.write(b)
		}
		switch {
		case err == nil:
		case err == io.EOF, errors.Is(err, ring.ErrEmpty):
			r.ended = err == io.EOF
			return r.enough()
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			var peer *ring.PeerError
			if errors.As(err, &peer) {
				return fmt.Errorf("%w; nothing came for %v, %d messages received; `millrace info %s` shows more", err, r.timeout, r.got, r.name)
			}
			return failf(exitBlocked, "nothing came for %v; %d messages received", r.timeout, r.got)
		default:
			return err
		}
	}
	return nil
}

// enough says whether -n was reached when no more is to come.
func (r *receiving) enough() error {
	if !r.counted {
		return nil
	}
	return &failure{exitBlocked, fmt.Sprintf("only %d of %d messages were there; send more, or use --follow", r.got, r.count), errTooFew}
}

// take leases the next messages.
func (r *receiving) take(ctx context.Context, limit int) (ring.Batch, error) {
	if r.untilEmpty {
		return r.consumer.TryNextBatch(limit)
	}
	if r.timeout > 0 {
		if b, err := r.consumer.TryNextBatch(limit); !errors.Is(err, ring.ErrEmpty) {
			return b, err
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	return r.consumer.NextBatch(ctx, limit)
}

// write writes a batch at once, releases what was written and gives back what was not. A batch is what is ready at one
// moment, so output never waits for input: with a fast producer many messages share a system call, with a slow one each is
// written as it comes.
func (r *receiving) write(b ring.Batch) error {
	now := time.Now()
	r.out, r.ends = r.out[:0], r.ends[:0]
	for i := range b.Len() {
		m := b.At(i)
		r.out = r.print(r.out, received{m.Position(), m.Deliveries(), m.Bytes(), now})
		r.ends = append(r.ends, len(r.out))
	}
	r.mu.Lock()
	r.batch, r.next = b, 0
	r.mu.Unlock()
	n, werr := r.stdout.Write(r.out)

	r.mu.Lock()
	defer r.mu.Unlock()
	whole := 0
	for whole < len(r.ends) && r.ends[whole] <= n {
		whole++
	}
	r.batch, r.got = ring.Batch{}, r.got+whole
	if werr == nil {
		return b.Release()
	}
	if err := giveBackFrom(b, whole); err != nil {
		return errors.Join(writeError(werr), err)
	}
	return writeError(werr)
}

// giveBack is what an abandoned recv does, which is stuck in a write: the messages of that write go back to the ring. Some
// of them may be written and will be delivered again, marked.
func (r *receiving) giveBack() {
	r.mu.Lock() // for good
	if r.batch.Len() > 0 {
		_ = giveBackFrom(r.batch, 0)
	}
	_ = r.ring.Close()
}

// giveBackFrom releases the first n messages of a batch and gives back the others, whatever the ring's policy for deaths is.
func giveBackFrom(b ring.Batch, n int) error {
	if n > 0 {
		if err := b.At(n - 1).Release(); err != nil || n == b.Len() {
			return err
		}
	}
	return b.At(n).Return()
}

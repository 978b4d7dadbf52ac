//go:build linux

package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// A remote is a child process that does to the ring "q" what the test tells it, one call at a time.
type remote struct {
	*proc.Proc
	t testing.TB
}

func init() { children["remote"] = runRemote }

// startRemote starts a child that has the ring open, and does the commands.
func startRemote(t testing.TB, dir string, commands []string, opts ...proc.Option) *remote {
	t.Helper()
	r := &remote{proc.Start(t, []string{"remote", dir}, opts...), t}
	class, data := r.answer()
	require.Equal(t, "ready", class, data)
	for _, c := range commands {
		r.must(c)
	}
	return r
}

// answer waits for the answer to a command: the class of its error, and the rest.
func (r *remote) answer() (class, data string) {
	r.t.Helper()
	lines := make(chan string, 1)
	go func() {
		line, ok := r.Line()
		if !ok {
			line = "ended " + r.Errors()
		}
		lines <- line
	}()
	select {
	case line := <-lines:
		class, data, _ = strings.Cut(line, " ")
		return class, data
	case <-time.After(proc.Patience):
		require.FailNow(r.t, "no answer from the child: it hangs")
		return "", ""
	}
}

// do does a command.
func (r *remote) do(command string) (class, data string) {
	r.t.Helper()
	r.Tell(command)
	return r.answer()
}

// must does a command that has to succeed.
func (r *remote) must(command string) string {
	r.t.Helper()
	class, data := r.do(command)
	require.Equal(r.t, "nil", class, "%s: %s", command, data)
	return data
}

// finish ends the child in one of the ways that a participant can end: "closed" or "killed".
func (r *remote) finish(how string) {
	r.t.Helper()
	switch how {
	case "closed":
		r.must("close")
	case "killed":
		r.Kill()
	default:
		require.FailNow(r.t, "unknown end", how)
	}
}

// classes are the errors that tests tell apart, the more special ones first.
var classes = []struct {
	name string
	err  error
}{
	{"eof", io.EOF}, {"full", ring.ErrFull}, {"empty", ring.ErrEmpty}, {"closed", ring.ErrClosed}, {"noconsumers", ring.ErrNoConsumers},
	{"lost", ring.ErrSegmentLost}, {"misuse", ring.ErrMisuse}, {"roletaken", ring.ErrRoleTaken}, {"toomany", ring.ErrTooManyParticipants},
	{"mismatch", ring.ErrMismatch}, {"inuse", ring.ErrInUse}, {"notsegment", ring.ErrNotSegment}, {"version", ring.ErrVersion},
	{"byteorder", ring.ErrByteOrder}, {"layout", ring.ErrLayout}, {"corrupt", ring.ErrCorrupt}, {"short", io.ErrShortBuffer},
	{"unsupported", ring.ErrUnsupported}, {"exists", fs.ErrExist}, {"missing", fs.ErrNotExist},
	{"deadline", context.DeadlineExceeded}, {"canceled", context.Canceled},
}

// classOf names an error; "other" is an error that no caller could tell by errors.Is.
func classOf(err error) string {
	var peer *ring.PeerError
	switch {
	case err == nil:
		return "nil"
	case errors.As(err, &peer):
		return "peer"
	}
	for _, c := range classes {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "other"
}

// actor is the state of a remote.
type actor struct {
	r *ring.Ring
	p *ring.Producer
	c *ring.Consumer
	s ring.Reservation
	m ring.Message
	b ring.Batch
}

func runRemote(args []string) error {
	r, err := ring.Open("q", ring.WithDir(args[0]))
	if err != nil {
		return err
	}
	a := &actor{r: r}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		data, err := a.do(strings.Fields(in.Text()))
		if err != nil {
			data += " " + err.Error()
		}
		if _, err = fmt.Printf("%s %s\n", classOf(err), data); err != nil {
			return nil // the test is over
		}
	}
	return nil
}

// message describes a message: content, position and deliveries.
func message(b []byte, position uint64, deliveries int) string {
	return fmt.Sprintf("%s %d %d", b, position, deliveries)
}

func (a *actor) do(f []string) (string, error) {
	ctx := context.Background()
	if f[0] == "within" { // within 300ms COMMAND
		d, err := time.ParseDuration(f[1])
		if err != nil {
			return "", err
		}
		c, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		ctx, f = c, f[2:]
	}
	var err error
	buf := make([]byte, 1<<16)
	switch f[0] {
	case "produce":
		var o []ring.ProducerOption
		if len(f) > 1 {
			o = append(o, ring.WaitForConsumers())
		}
		a.p, err = a.r.NewProducer(o...)
	case "consume":
		var o []ring.ConsumerOption
		if len(f) > 1 {
			o = append(o, ring.Follow())
		}
		a.c, err = a.r.NewConsumer(o...)
	case "send":
		for _, m := range f[1:] {
			if err = a.p.Send(ctx, []byte(m)); err != nil {
				break
			}
		}
	case "sendbatch":
		var msgs [][]byte
		for _, m := range f[1:] {
			msgs = append(msgs, []byte(m))
		}
		var n int
		n, err = a.p.SendBatch(ctx, msgs)
		return strconv.Itoa(n), err
	case "trysend":
		err = a.p.TrySend([]byte(f[1]))
	case "reserve":
		if a.s, err = a.p.Reserve(ctx, len(f[1])); err == nil {
			copy(a.s.Bytes(), f[1])
		}
	case "commit":
		err = a.s.Commit()
	case "receive", "try":
		var n int
		if f[0] == "try" {
			n, err = a.c.TryReceive(buf)
		} else {
			n, err = a.c.Receive(ctx, buf)
		}
		if err == nil {
			return message(buf[:n], a.c.Last().Position, a.c.Last().Deliveries), nil
		}
	case "next":
		if a.m, err = a.c.Next(ctx); err == nil {
			return message(a.m.Bytes(), a.m.Position(), a.m.Deliveries()), nil
		}
	case "nextbatch":
		limit, _ := strconv.Atoi(f[1])
		if a.b, err = a.c.NextBatch(ctx, limit); err == nil {
			return strconv.Itoa(a.b.Len()), nil
		}
	case "release":
		err = a.m.Release()
	case "return":
		err = a.m.Return()
	case "drain": // receives up to the end of the stream
		var got []string
		for err == nil {
			var n int
			if n, err = a.c.Receive(ctx, buf); err == nil {
				got = append(got, string(buf[:n]))
			}
		}
		if err == io.EOF {
			return strings.Join(got, " "), nil
		}
		return strings.Join(got, " "), err
	case "close":
		err = a.r.Close()
	default:
		err = fmt.Errorf("unknown command %q", f[0])
	}
	return "", err
}

// bothKinds are both bothKinds of rings.
var bothKinds = []ring.Kind{ring.SPSC, ring.MPMC}

// newRing makes the ring "q" in a directory of its own.
func newRing(t testing.TB, o ring.Options) (*ring.Ring, string) {
	t.Helper()
	o.Dir = proc.Dir(t)
	if o.Participants == 0 {
		o.Participants = 16
	}
	if o.SlotSize == 0 {
		o.SlotSize = 64
	}
	r, err := ring.Create("q", o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r, o.Dir
}

// producerOf and consumerOf register in the test's own process.
func producerOf(t testing.TB, r *ring.Ring, o ...ring.ProducerOption) *ring.Producer {
	t.Helper()
	p, err := r.NewProducer(o...)
	require.NoError(t, err)
	return p
}

func consumerOf(t testing.TB, r *ring.Ring, o ...ring.ConsumerOption) *ring.Consumer {
	t.Helper()
	c, err := r.NewConsumer(o...)
	require.NoError(t, err)
	return c
}

// within is a context that ends after d.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// receiveString receives one message with patience.
func receiveString(t testing.TB, c *ring.Consumer) (string, ring.Delivery) {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := c.Receive(within(t, proc.Patience), buf)
	require.NoError(t, err)
	return string(buf[:n]), c.Last()
}

// fill sends until the ring is full and returns how many messages fitted.
func fill(t testing.TB, p *ring.Producer) (n int) {
	t.Helper()
	for {
		err := p.TrySend([]byte(fmt.Sprintf("fill%d", n)))
		if errors.Is(err, ring.ErrFull) {
			return n
		}
		require.NoError(t, err)
		n++
	}
}

// poll calls a Try call every few milliseconds until it says something else than ErrEmpty, or patience is over.
func poll(try func() error) (err error) {
	for end := time.Now().Add(proc.Patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if err = try(); !errors.Is(err, ring.ErrEmpty) {
			return err
		}
	}
	return err
}

// asleep waits until the counter of sleeps has grown: somebody waits in the kernel.
func asleep(t testing.TB, r *ring.Ring, before uint64) {
	t.Helper()
	require.Eventually(t, func() bool { return r.Stats().Sleeps > before }, proc.Patience, time.Millisecond, "nobody went to sleep")
}

// later runs f in a goroutine and returns a function that waits for its error with patience.
func later(t testing.TB, f func() error) func() error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return func() error {
		t.Helper()
		select {
		case err := <-done:
			return err
		case <-time.After(proc.Patience):
			require.FailNow(t, "the call hangs")
			return nil
		}
	}
}

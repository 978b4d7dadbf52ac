//go:build testpoint && linux

package recovery

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/clock"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// The promise, and what an idle machine is to show besides. All count from the release of the lock.
const (
	promised     = 100 * time.Millisecond
	halfOfWaits  = 5 * time.Millisecond  // p50 of callers that wait
	halfOfPolls  = 25 * time.Millisecond // p50 of callers that only poll
	attempts     = 3                     // of a row; a busy machine spoils some
	shortKills   = 10                    // a row, in a test run
	killsEnv     = "MILLRACE_KILLS"      // a row, for the figures of docs/VERIFICATION.md; with it the halves are required too
	mostAsleep   = 5                     // a victim may lag behind its words for so many samples
	documentPath = "../../docs/VERIFICATION.md"
)

var update = flag.Bool("update", false, "write the table into docs/VERIFICATION.md")

func TestMain(m *testing.M) {
	proc.Main(m, map[string]func(*proc.Child) error{"victim": victim, "peer": peer})
}

// row is one way to die, and one who waits.
type row struct {
	state  string // of the victim, in words
	kind   ring.Kind
	policy ring.DeathPolicy
	victim string
	label  string // the victim is stopped there, and killed when it has stopped
	peer   string
	want   string                       // how the wait ends
	before func(*testing.T, *ring.Ring) // before the victim acts
	behind func(*testing.T, *ring.Ring) // after it has
}

// sends makes n messages of a producer that lives on, or has closed.
func sends(n int, lives bool) func(*testing.T, *ring.Ring) {
	return func(t *testing.T, r *ring.Ring) {
		p, err := r.NewProducer(ring.WaitForConsumers())
		require.NoError(t, err)
		for range n {
			require.NoError(t, p.TrySend(message))
		}
		if !lives {
			require.NoError(t, p.Close())
		}
	}
}

// fills fills the two slots of the ring, and registers a consumer that lives on.
func fills(t *testing.T, r *ring.Ring) {
	sends(2, true)(t, r)
	_, err := r.NewConsumer()
	require.NoError(t, err)
}

var rows = []row{
	{state: "producer, holding a claim", victim: "reserve", peer: "Receive", want: "ok", behind: sends(1, true)},
	{state: "producer, holding a claim", victim: "reserve", peer: "TryReceive", want: "ok", behind: sends(1, true)},
	{state: "producer, in the middle of a Send", victim: "send", label: "P4 length", peer: "Receive", want: "EOF"},
	{state: "producer, between publishing and waking", victim: "send", label: "P6", peer: "Receive", want: "ok"},
	{state: "producer, between publishing and waking", kind: ring.SPSC, victim: "send", label: "S4", peer: "Receive", want: "ok"},
	{state: "consumer, holding a lease", victim: "lease", peer: "Receive", want: "ok", before: sends(1, true)},
	{state: "consumer, holding a lease", victim: "lease", peer: "TryReceive", want: "ok", before: sends(1, true)},
	{state: "consumer that had slept, holding a lease", victim: "slept, lease", peer: "Receive", want: "ok", before: sends(1, true)},
	{state: "consumer, holding a lease, Drop, the ring full", policy: ring.Drop, victim: "lease", peer: "Send", want: "ok", before: fills},
	{state: "consumer, holding a lease, Drop, the ring full", policy: ring.Drop, victim: "lease", peer: "TrySend", want: "ok", before: fills},
	{state: "consumer, between freeing and waking", victim: "receive", label: "C4", peer: "Send", want: "ok", before: fills},
	{state: "consumer, between freeing and waking", kind: ring.SPSC, victim: "receive", label: "D4", peer: "Send", want: "ok", before: sends(2, false)},
	{state: "the last producer", victim: "producer", peer: "Receive", want: "EOF"},
	{state: "the last producer", kind: ring.SPSC, victim: "producer", peer: "Receive", want: "EOF"},
	{state: "the last producer", victim: "producer", peer: "TryReceive", want: "EOF"},
	{state: "the last consumer, the ring full", victim: "consumer", peer: "Send", want: "ErrNoConsumers", before: sends(2, true)},
	{state: "the last consumer, the ring full", kind: ring.SPSC, victim: "consumer", peer: "Send", want: "ErrNoConsumers", before: sends(2, false)},
}

func (r *row) polls() bool { return strings.HasPrefix(r.peer, "Try") }

func (r *row) name() string {
	kind := r.kind
	if kind == 0 {
		kind = ring.MPMC
	}
	return fmt.Sprintf("%s, %v, %s", r.state, kind, r.peer)
}

// sample is one death.
type sample struct{ signal, release time.Duration }

// TestTimeToRecover kills a participant in each role and state while a peer waits for it, and measures the time to the peer's next progress, from the
// signal and from the release of the lock. The second is what is promised: 100 ms at most.
func TestTimeToRecover(t *testing.T) {
	kills := shortKills
	figures := os.Getenv(killsEnv)
	if figures != "" {
		var err error
		kills, err = strconv.Atoi(figures)
		require.NoError(t, err)
	}
	before := load(t)
	var tables []measured
	for _, r := range rows {
		t.Run(r.name(), func(t *testing.T) {
			m := measured{row: r}
			var missed error
			for range attempts {
				m.samples = m.samples[:0]
				for range kills {
					m.samples = append(m.samples, r.die(t))
				}
				if missed = m.misses(figures != ""); missed == nil {
					break
				}
				t.Log(missed)
			}
			require.NoError(t, missed)
			tables = append(tables, m)
		})
	}
	if t.Failed() {
		return
	}
	table := markdown(tables)
	t.Logf("RECOVERY %d rows, %d kills each\n%s", len(tables), kills, table)
	if *update {
		write(t, before, table)
	}
}

// die makes one sample.
func (r *row) die(t *testing.T) sample {
	for range mostAsleep {
		if s, ok := r.try(t); ok {
			return s
		}
	}
	require.Fail(t, "the peer went on before the victim was killed, each time")
	return sample{}
}

// try makes one sample; false when the peer went on before its time.
func (r *row) try(t *testing.T) (s sample, ok bool) {
	dir := proc.Dir(t)
	q, err := ring.Create("q", ring.Options{Kind: r.kind, Slots: 2, SlotSize: 64, Participants: 8, OnConsumerDeath: r.policy, Dir: dir})
	require.NoError(t, err)
	defer func() { require.NoError(t, q.Close()) }()
	var opts []proc.Option
	if r.label != "" {
		opts = append(opts, proc.Env("MILLRACE_TESTPOINT="+r.label+":1:stop"))
	}
	v := proc.Start(t, []string{"victim", dir, r.victim}, opts...)
	if r.victim == "slept, lease" {
		v.Want("slept")
	}
	if r.before != nil {
		r.before(t, q)
	}
	if r.label != "" {
		v.Want("registered")
	} else {
		v.Want("ready")
	}
	if r.behind != nil {
		r.behind(t, q)
	}
	released := watchLock(t, dir, lockOf(t, q, v.Cmd.Process.Pid))

	sleeps := q.Stats().Sleeps
	p := proc.Start(t, []string{"peer", dir, r.peer})
	p.Want("waiting")
	if r.polls() {
		p.Want("turned away")
	} else {
		require.Eventually(t, func() bool { return q.Stats().Sleeps > sleeps }, proc.Patience, 100*time.Microsecond, "%+v %s", q.Stats(), p.Errors())
	}
	if r.label != "" {
		v.Tell("go")
		require.True(t, v.WaitStopped(), v.Errors())
	} else { // in any phase of the peer's ticks and looks
		time.Sleep(rand.N(40 * time.Millisecond))
	}
	signal := clock.Now()
	v.Kill()
	var over uint64
	var how string
	_, err = fmt.Sscan(p.Want("over"), &over, &how)
	require.NoError(t, err)
	require.Equal(t, r.want, how, "%s: %+v", r.name(), q.Stats())
	release := <-released
	p.Tell("end")
	p.Succeeds()
	if over < signal {
		return s, false
	}
	return sample{time.Duration(over - signal), max(0, time.Duration(int64(over)-int64(release)))}, true
}

// lockOf returns the byte that the participant of a process has locked.
func lockOf(t *testing.T, q *ring.Ring, pid int) int64 {
	for _, p := range q.Participants() {
		if p.PID == pid {
			return layout.LockParticipant + int64(p.ID)
		}
	}
	require.Fail(t, "the victim is no participant")
	return 0
}

// watchLock waits for the lock on byte b to be released, by asking for a read lock, which is in nobody's way; it tells when that was. The descriptor stays open to
// the end of the test: a close would call those who watch.
func watchLock(t *testing.T, dir string, b int64) <-chan uint64 {
	const setLockWait = 38 // F_OFD_SETLKW
	f, err := os.Open(filepath.Join(dir, "q"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	at := make(chan uint64, 1)
	go func() {
		runtime.LockOSThread()
		lock := syscall.Flock_t{Type: syscall.F_RDLCK, Start: b, Len: 1}
		for {
			switch err := syscall.FcntlFlock(f.Fd(), setLockWait, &lock); err {
			case nil:
				at <- clock.Now()
				return
			case syscall.EINTR:
			default:
				panic(err)
			}
		}
	}()
	return at
}

//go:build testpoint && linux

package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// togetherFor is how long TestKilledTogether goes on for each kind and policy: MILLRACE_CRASH, as a duration, or three seconds.
func togetherFor(t *testing.T) time.Duration {
	if v := os.Getenv("MILLRACE_CRASH"); v != "" {
		d, err := time.ParseDuration(v)
		require.NoError(t, err)
		return d
	}
	if testing.Short() {
		return time.Second
	}
	return 3 * time.Second
}

var (
	producerScripts = []string{"send", "send large", "reserve", "send batch", "producer lives"}
	consumerScripts = []string{"receive", "receive large", "next", "batch in parts", "return", "close leased", "consumer lives"}
)

func init() {
	scenarios["together"] = &scenario{role: ring.ConsumerRole, sizes: mixed} // the test's own side
}

// Several children work in one ring at once, and each is killed at a label of its own or, if it does not get there, at some moment: so that the remains of several are there
// together, recoverers are killed by their own labels, and successors find what two generations left. Properties: those of TestKilled, whatever the combination.
func TestKilledTogether(t *testing.T) {
	for _, k := range kinds {
		for _, policy := range []ring.DeathPolicy{ring.Redeliver, ring.Drop} {
			t.Run(fmt.Sprintf("%s/%s", k, policy), func(t *testing.T) {
				t.Parallel()
				seed, rounds := rand.Uint64(), 0
				for end := time.Now().Add(togetherFor(t)); time.Now().Before(end); rounds++ {
					together(t, k, policy, seed+uint64(rounds))
				}
				t.Logf("%d rounds from seed %d", rounds, seed)
			})
		}
	}
}

func together(t *testing.T, k ring.Kind, policy ring.DeathPolicy, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, "together", k, policy)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), proc.Patience)
	defer cancel()
	if k == ring.MPMC {
		w.prepare()
		w.otherSide()
	}
	var ps []*proc.Proc
	var said []string
	child := func(scripts []string) {
		name := scripts[rnd.IntN(len(scripts))]
		labels := scenarios[name].labelsFor(k)
		label, n := labels[rnd.IntN(len(labels))], 1+rnd.Int64N(12)
		if rnd.IntN(6) == 0 { // while it recovers somebody
			recovers := []string{"V1", "V3 back", "V3 skip", "V3 interior", "V3 lost", "V4", "V5", "V6", "V8", "J1", "J2", "J4", "10.3 skipped"}
			label, n = recovers[rnd.IntN(len(recovers))], 1
		}
		said = append(said, fmt.Sprintf("%s at %s:%d", name, label, n))
		ps = append(ps, w.start(name, label, n, "kill"))
	}
	generations := 1 + rnd.IntN(3)
	for range generations {
		first := len(ps)
		for range 1 + rnd.IntN(2)*int(k-ring.SPSC) {
			child(producerScripts)
		}
		for range 1 + rnd.IntN(2)*int(k-ring.SPSC) {
			child(consumerScripts)
		}
		over := time.AfterFunc(time.Duration(10+rnd.IntN(40))*time.Millisecond, func() {
			for _, p := range ps[first:] {
				_ = p.Cmd.Process.Signal(syscall.SIGKILL) // may have ended
			}
		})
		for _, p := range ps[first:] {
			sig, code := p.Result()
			require.True(t, sig == syscall.SIGKILL || code == 0, "%v: signal %v, exit %d: %s", said, sig, code, p.Errors())
			w.read(p)
		}
		over.Stop()
	}
	w.ended.Store(true)
	begin := time.Now()
	if k == ring.SPSC {
		p, err := w.r.NewProducer(ring.WaitForConsumers())
		require.NoError(t, err)
		w.p = p
		w.run(func() error { return w.sendAll(ctx) })
	}
	q, err := w.r.NewConsumer()
	require.NoError(t, err)
	w.receiver(ctx, q)
	w.others.Wait()
	select {
	case err := <-w.errs:
		require.NoError(t, err, "%s; %+v", strings.Join(said, ", "), w.r.Stats())
	default:
	}
	require.Less(t, time.Since(begin), proc.Notice, "the survivors noticed too late: %v", said)
	for _, got := range w.lists {
		w.account.got = append(w.account.got, *got)
	}
	w.lap(ctx)
	s := w.r.Stats()
	_, err = w.account.check(s)
	require.NoError(t, err, "%s; %+v\n%s", strings.Join(said, ", "), s, w.account.describe())
	require.Zero(t, s.Used, "%s; %+v", strings.Join(said, ", "), s)
	require.LessOrEqual(t, s.Skipped, uint64(len(ps)))
}

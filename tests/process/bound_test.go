//go:build linux

package process

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

const exchanges = 5000

func init() {
	children["exchange"] = func(args []string) error { return askOrAnswer(args[0], args[1]) }
}

// Two processes that are each bound to a processor of their own spin for each other, as others do: the Go runtime takes a process that may use one processor
// for one on a machine that has one, where nothing can happen while somebody spins. A process that does not run, on a machine
// with other work, makes its peer sleep: there are some tries, and processes that are not bound, which do better only if the machine is not the reason.
func TestBoundProcessesSpin(t *testing.T) {
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		t.Skip("taskset is not installed (util-linux)")
	}
	cores := allowed(t)
	if len(cores) < 2 {
		t.Skip("on one processor there is nobody to spin for")
	}
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			const few = exchanges / 5
			for try := 1; ; try++ {
				slept := exchangeOn(t, kind, []string{taskset, "-c", cores[0]}, []string{taskset, "-c", cores[1]})
				t.Logf("try %d: %d sleeps in %d exchanges", try, slept, exchanges)
				if slept < few {
					return
				}
				free := exchangeOn(t, kind, nil, nil)
				t.Logf("not bound: %d", free)
				require.False(t, try >= 3 && free < few, "%d sleeps in %d exchanges, and %d when the processes are not bound", slept, exchanges, free)
				if try == 10 {
					t.Skip("the machine is too busy: processes that are not bound sleep, too")
				}
				time.Sleep(200 * time.Millisecond)
			}
		})
	}
}

// exchangeOn returns how often two processes slept that answered each other, each started by a command, or directly.
func exchangeOn(t *testing.T, kind ring.Kind, by ...[]string) (sleeps uint64) {
	dir := proc.Dir(t)
	var rings []*ring.Ring
	for _, name := range []string{"there", "back"} {
		r, err := ring.Create(name, ring.Options{Kind: kind, Slots: 64, SlotSize: 8, Dir: dir})
		require.NoError(t, err)
		defer r.Close()
		rings = append(rings, r)
	}
	var ps []*proc.Proc
	for i, side := range []string{"asks", "answers"} {
		ps = append(ps, proc.Start(t, []string{"exchange", dir, side}, func(c *exec.Cmd) {
			if len(by[i]) > 0 {
				exe, err := os.Executable()
				require.NoError(t, err)
				c.Path, c.Args = by[i][0], append(append(slices.Clone(by[i]), exe), c.Args[1:]...)
			}
		}))
	}
	start(ps...)
	succeed(t, ps...)
	for _, r := range rings {
		s := r.Stats()
		require.EqualValues(t, exchanges, s.Received)
		sleeps += s.Sleeps
	}
	return sleeps
}

// allowed are the processors that this process may use.
func allowed(t *testing.T) (cores []string) {
	text, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, list, ok := strings.Cut(string(text), "\nCpus_allowed_list:")
	require.True(t, ok)
	list, _, _ = strings.Cut(list, "\n")
	for _, some := range strings.Split(strings.TrimSpace(list), ",") {
		first, last, isRange := strings.Cut(some, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		require.NoError(t, err)
		to, err := strconv.Atoi(last)
		require.NoError(t, err)
		for i := from; i <= to; i++ {
			cores = append(cores, strconv.Itoa(i))
		}
	}
	return cores
}

func askOrAnswer(dir, side string) error {
	there, err := ring.Open("there", ring.WithDir(dir))
	if err != nil {
		return err
	}
	defer there.Close()
	back, err := ring.Open("back", ring.WithDir(dir))
	if err != nil {
		return err
	}
	defer back.Close()
	asks := side == "asks"
	if !asks {
		there, back = back, there
	}
	p, err := there.NewProducer()
	if err != nil {
		return err
	}
	q, err := back.NewConsumer()
	if err != nil {
		return err
	}
	meet()
	ctx, cancel := patience()
	defer cancel()
	buf := make([]byte, 8)
	for i := range exchanges {
		if asks {
			if err := p.Send(ctx, buf); err != nil {
				return err
			}
		}
		if _, err := q.Receive(ctx, buf); err != nil {
			return fmt.Errorf("exchange %d: %w", i, err)
		}
		if !asks {
			if err := p.Send(ctx, buf); err != nil {
				return err
			}
		}
	}
	return nil
}

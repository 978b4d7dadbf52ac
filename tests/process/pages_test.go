//go:build linux

package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

func init() {
	children["pages create"] = pagesCreate
	children["pages open"] = pagesOpen
}

// pagesSlots of 64 bytes: the entries and the cells take 2048 pages of 4 KiB in an MPMC ring, the entries as many in an SPSC ring.
const pagesSlots, pagesPages = 1 << 16, 2048

// The first lap of a large ring does not stop for each page. Properties: the process that made the ring has all of it mapped and clear, and one that opened it,
// which finds the memory there, takes far fewer faults for its first lap of writing than the ring has pages. Both hold for messages sent one by one and in batches.
func TestFirstLapDoesNotStopForEachPage(t *testing.T) {
	for _, kind := range kinds {
		for _, task := range []string{"pages create", "pages open"} {
			for _, batch := range []int{1, 32} {
				t.Run(fmt.Sprint(kind, "/", task, "/", batch), func(t *testing.T) {
					dir := proc.Dir(t)
					if task == "pages open" {
						r, err := ring.Create("q", pagesOptions(kind, dir))
						require.NoError(t, err)
						defer r.Close()
					}
					p := proc.Start(t, []string{task, dir, strconv.Itoa(int(kind)), strconv.Itoa(batch)})
					faults, err := strconv.Atoi(strings.TrimSpace(p.Want("faults")))
					require.NoError(t, err)
					p.Succeeds()
					t.Log(faults, "faults")
					require.Less(t, faults, pagesPages/3)
				})
			}
		}
	}
}

func pagesOptions(kind ring.Kind, dir string) ring.Options {
	return ring.Options{Kind: kind, Slots: pagesSlots, SlotSize: 64, Dir: dir}
}

func pagesCreate(args []string) error {
	kind, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	r, err := ring.Create("q", pagesOptions(ring.Kind(kind), args[0]))
	if err != nil {
		return err
	}
	return firstLap(r, args[2])
}

func pagesOpen(args []string) error {
	r, err := ring.Open("q", ring.WithDir(args[0]))
	if err != nil {
		return err
	}
	return firstLap(r, args[2])
}

// firstLap fills the ring and says how many faults that took.
func firstLap(r *ring.Ring, batch string) error {
	n, err := strconv.Atoi(batch)
	if err != nil {
		return err
	}
	p, err := r.NewProducer(ring.WaitForConsumers())
	if err != nil {
		return err
	}
	msgs := make([][]byte, n)
	for i := range msgs {
		msgs[i] = make([]byte, 64)
	}
	before, err := faults()
	if err != nil {
		return err
	}
	for sent := 0; sent < pagesSlots; sent += n {
		if n == 1 {
			err = p.TrySend(msgs[0])
		} else {
			_, err = p.TrySendBatch(msgs)
		}
		if err != nil {
			return err
		}
	}
	after, err := faults()
	say("faults %d", after-before)
	if err == nil {
		err = r.Close()
	}
	return err
}

// faults is how many pages this process had mapped so far when it touched them.
func faults() (int64, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Minflt, os.NewSyscallError("getrusage", err)
}

//go:build linux

package process

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

func init() { children["racer"] = racer }

// racer opens or creates the rings that it is told to at the time that it is told, and exchanges a message on each.
func racer(args []string) error {
	dir, backing := args[0], seg.POSIX
	if args[1] == seg.SysV.String() {
		backing = seg.SysV
	}
	fmt.Println("ready")
	for {
		var name, number string
		var at int64
		if _, err := fmt.Scan(&name, &at, &number); err != nil {
			return nil // the test is over
		}
		for time.Now().UnixNano() < at { // all at once: a sleep would spread them
		}
		r, created, err := ring.OpenOrCreate(name, ring.Options{Dir: dir, Slots: 128, SlotSize: 64, Participants: 160, Backing: backing})
		if err != nil {
			return err
		}
		c, err := r.NewConsumer(ring.Follow())
		if err != nil {
			return err
		}
		p, err := r.NewProducer()
		if err != nil {
			return err
		}
		fmt.Printf("open %x %v\n", r.Header().ID, created)
		var word string // go, when all are here
		if _, err = fmt.Scan(&word); err != nil {
			return nil
		}
		if err = exchange(p, c, number); err != nil {
			return err
		}
		if err = r.Close(); err != nil {
			return err
		}
	}
}

// exchange sends a message and receives one of somebody's.
func exchange(p *ring.Producer, c *ring.Consumer, message string) error {
	ctx, cancel := context.WithTimeout(context.Background(), proc.Patience)
	defer cancel()
	if err := p.Send(ctx, []byte(message)); err != nil {
		return err
	}
	buf := make([]byte, 64)
	n, err := c.Receive(ctx, buf)
	if err != nil {
		return err
	}
	fmt.Printf("got %s\n", buf[:n])
	return nil
}

// Any number of processes may race for a name, and be killed in the middle: there is exactly one ring, never a half-made one, and all who live exchange messages on it.
func TestManyProcessesRaceToCreateOneRing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		backing                    seg.Backing
		processes, rounds, victims int
	}{{seg.POSIX, 64, 8, 5}, {seg.SysV, 16, 6, 2}} {
		t.Run(c.backing.String(), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			dir := proc.Dir(t)
			var alive []*proc.Proc
			for range c.processes {
				alive = append(alive, proc.Start(t, []string{"racer", dir, c.backing.String()}))
			}
			for _, p := range alive {
				p.Want("ready")
			}
			for round := range c.rounds {
				name := fmt.Sprintf("race%d", round)
				delay := 10 * time.Millisecond
				start := time.Now().Add(delay).UnixNano()
				for i, p := range alive {
					p.Tell(fmt.Sprintf("%s %d m%d", name, start, i))
				}
				time.Sleep(delay)
				for range c.victims {
					time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
					i := random.IntN(len(alive))
					alive[i].Kill()
					alive = slices.Delete(alive, i, i+1)
				}
				ids, creators := map[string]int{}, 0
				for _, p := range alive {
					id, created, _ := strings.Cut(p.Want("open "), " ")
					ids[id]++
					if created == "true" {
						creators++
					}
				}
				require.Len(t, ids, 1, "round %d: two rings under one name", round)
				require.LessOrEqual(t, creators, 1, "round %d", round)
				r, err := ring.Open(name, ring.WithDir(dir), ring.ReadOnly())
				require.NoError(t, err)
				require.Contains(t, ids, fmt.Sprintf("%x", r.Header().ID))

				for _, p := range alive {
					p.Tell("go")
				}
				seen := map[string]int{}
				for _, p := range alive {
					seen[p.Want("got ")]++
				}
				for m, n := range seen {
					require.Equal(t, 1, n, "round %d: message %s was received more than once", round, m)
				}
				require.Len(t, seen, len(alive), "round %d", round)
				require.Equal(t, uint64(len(alive)), r.Stats().Sent)
				require.NoError(t, r.Close())
			}
			for _, p := range alive {
				p.End()
			}
			for _, p := range alive {
				p.Succeeds()
			}
			_, err := seg.Sweep(dir)
			require.NoError(t, err)
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			require.Len(t, entries, c.rounds, "the dead left something that the sweep did not find: %v", entries)
			for round := range c.rounds {
				require.NoError(t, ring.Remove(fmt.Sprintf("race%d", round), ring.WithDir(dir), ring.IfDrained()))
			}
		})
	}
}

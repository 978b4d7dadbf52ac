//go:build linux && amd64

package step

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// killRecoverers kills a child that recovers each of these states, at each of its changes, and returns how often.
func (s *setting) killRecoverers(t *testing.T, sc *scenario, states []death) int {
	var n atomic.Int64
	before := s.worlds[0].situation
	defer func() {
		for _, w := range s.worlds {
			w.situation = before
		}
	}()
	require.NoError(t, spread(s.worlds, len(states), func(w *world, i int) error {
		d := states[i]
		w.begin, w.victims = d.image, before.victims+1
		r, err := s.record(w, "recover", ringOnly)
		if err != nil {
			return err
		}
		for k := range r.pcs {
			if !r.changes[k] {
				continue
			}
			again, err := r.killAt(w, k)
			if err == nil && again.outcome != d.outcome {
				err = fmt.Errorf("%q; without the second death it is %q", again.outcome, d.outcome)
			}
			if err != nil {
				return fmt.Errorf("killed after %d instructions; who recovered that was killed after %d, before %s: %w", d.at, k, r.at(k), err)
			}
			n.Add(1)
		}
		return nil
	}))
	return int(n.Load())
}

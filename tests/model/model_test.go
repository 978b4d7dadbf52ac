package model

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// More states than any configuration has, and what a short run looks at.
const (
	manyStates  = 60_000_000
	shortStates = 100_000
)

// long asks for the configurations that take minutes, and up to 5 GB.
func long() bool { return os.Getenv("MILLRACE_MODEL") == "long" }

func limit() int {
	if testing.Short() {
		return shortStates
	}
	return manyStates
}

func exploreMPMC(c Config) Result {
	// Nothing is ever settled where nobody consumes: there only what is seen on the way counts.
	return Explore[mpmcState](NewMPMC(c), limit(), len(c.Consumers) > 0)
}

func exploreSPSC(c SPSCConfig) Result { return Explore[spscState](NewSPSC(c), limit(), true) }

func requireRight(t *testing.T, r Result) {
	require.Empty(t, r.Violates, strings.Join(r.Trace, "\n"))
	t.Log(r)
	if testing.Short() && r.Truncated {
		t.Skip("not all of it in a short run")
	}
	require.False(t, r.Truncated)
}

// TestMPMC: in every interleaving and with a death at every step, nothing committed is lost, nothing comes twice unmarked, first deliveries
// are in order, EMPTY and FULL are true, the accounts are exact, and everything can always be settled; without a death nobody oversleeps.
func TestMPMC(t *testing.T) {
	configs := mpmcConfigs
	if long() {
		configs = append(configs, mpmcLong...)
	}
	states := 0
	for _, c := range configs {
		t.Run(c.Name, func(t *testing.T) {
			r := exploreMPMC(c)
			requireRight(t, r)
			states += r.States
			require.Equal(t, len(c.Consumers) > 0, r.Goals > 0)
		})
	}
	fmt.Printf("model: MPMC, %d configurations, %d states\n", len(configs), states)
}

// TestSPSC: the same for one producer and one consumer, whose roles are taken over by others when they die.
func TestSPSC(t *testing.T) {
	configs := spscConfigs
	if long() {
		configs = append(configs, spscLong...)
	}
	states := 0
	for _, c := range configs {
		t.Run(c.Name, func(t *testing.T) {
			r := exploreSPSC(c)
			requireRight(t, r)
			states += r.States
			require.NotZero(t, r.Goals)
		})
	}
	fmt.Printf("model: SPSC, %d configurations, %d states\n", len(configs), states)
}

// counter is a model to test the explorer with: n counts to 9, or takes a way that leads nowhere.
type counter struct{ n, trap int }

func (c counter) Start() counter { return counter{trap: c.trap} }

func (c counter) Next(s *counter, emit func(*counter, Step)) {
	if s.n >= 0 && s.n < 9 {
		emit(&counter{s.n + 1, s.trap}, Step{Who: "c", Name: "count"})
	}
	if s.n == s.trap {
		emit(&counter{-1, s.trap}, Step{Who: "c", Name: "fall", Crash: true})
	}
	if s.n < 0 && s.n > -3 {
		emit(&counter{s.n - 1, s.trap}, Step{Who: "c", Name: "sink"})
	}
}

func (c counter) Check(s *counter) string {
	if s.n == 7 && s.trap == 99 {
		return "seven"
	}
	return ""
}

func (c counter) Goal(s *counter) bool { return s.n == 9 }

func (c counter) Format(s *counter) string { return strings.Repeat("*", max(s.n, 0)) }

func TestExplorerVisitsEveryState(t *testing.T) {
	r := Explore[counter](counter{trap: 100}, 100, true)
	require.Empty(t, r.Violates)
	require.Equal(t, 10, r.States)
	require.Equal(t, 1, r.Goals)
}

func TestExplorerFindsWhatIsStuck(t *testing.T) {
	r := Explore[counter](counter{trap: 5}, 100, true)
	require.Equal(t, stuck, r.Violates)
	require.Len(t, r.Trace, 7, "five steps and the fall")
	require.Contains(t, r.Trace[6], "fall")
}

func TestExplorerShowsTheWay(t *testing.T) {
	r := Explore[counter](counter{trap: 99}, 100, true)
	require.Equal(t, "seven", r.Violates)
	require.Len(t, r.Trace, 8)
}

func TestExplorerStopsAtTheLimit(t *testing.T) {
	require.True(t, Explore[counter](counter{trap: 100}, 5, true).Truncated)
}

package model

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// left names a step that is left out, the configuration that notices it and the property that it violates there; or why nobody could notice.
type left struct {
	step, config, violates, equivalent string
}

const (
	aHint   = "a hint: whoever has none walks on from its own candidate"
	aStride = "the exact position says the same, and more"
)

var mpmcLeft = []left{
	{"P0", "1P 2C", "", aHint},
	{"P2", "late recoverer", uncommit, ""},
	{"P2 again", "batch race", "FULL while there was room", ""},
	{"P3", "batch race", robbed, ""},
	{"P4", "batch race", uncommit, ""},
	{"P5", "wait pad", "I1: claimed out of order", ""},
	{"P6", "batch race", stuck, ""},
	{"P7", "1P 2C", "", aHint},
	{"C0", "no heirs", stuck, ""},
	{"C1", "1P 2C", "", aHint},
	{"C2 empty", "no heirs", unseen, ""},
	{"C4", "wait discard", stuck, ""},
	{"C5", "batch race", stuck, ""},
	{"C6", "1P 2C", "", aHint},
	{"C8 scan", "no heirs", unseen, ""},
	{"L2 batch", "batch", "", "a batch of one message is a batch"},
	{"L2", "parts", "unmarked duplicate", ""},
	{"L3", "lease", "delivered again after its release", ""},
	{"L3 rest", "batch", "unmarked duplicate", ""},
	{"L3 part", "return", "delivered again after its release", ""},
	{"L3 free", "parts", stuck, ""},
	{"L4", "parts", "", "the next release notifies as well; until then a producer sleeps beside free slots, a tick at most (held is a matter of tests/weak)"},
	{"R1", "return", "unmarked duplicate", ""},
	{"R2", "return", stuck, ""},
	{"R3", "return", stuck, ""},
	{"R4", "return", unseen, ""},
	{"A2", "limit", badSkips, ""},
	{"A3", "no heirs", badSkips, ""},
	{"V2", "no heirs", stuck, ""},
	{"V3 free", "limit", uncommit, ""},
	{"V3 head", "no heirs", stuck, ""},
	{"V3 again", "late recoverer", "", "as NoLengthRecheck"},
	{"V3 back", "parts", stuck, ""},
	{"V3 lost", "limit", stuck, ""},
	{"V4", "no heirs", unseen, ""},
	{"V6", "no heirs", stuck, ""},
	{"V7", "no heirs", stuck, ""},
	{"W1", "wait pad", lostWake, ""},
	{"W4", "wait pad", lostWake, ""},
	{"B1", "baton", lostWake, ""},
	{"N1", "baton", "", "it only saves a system call"},
	{"N2", "wait pad", lostWake, ""},
	{"N2 wake", "wait pad", lostWake, ""},
	{"N3", "baton", "", "arrivals that stay cost a system call at each notification"},
}

var spscLeft = []left{
	{"S1", "copy run", "", aStride},
	{"S1 exact", "discard padding", overwritten, ""},
	{"S2", "discard padding", stuck, ""},
	{"S2 reserve", "reserve one slot", badReserve, ""},
	{"S3", "discard padding", uncommit, ""},
	{"S4", "discard padding", stuck, ""},
	{"S5 clear", "reserve", badReserve, ""},
	{"S5", "reserve one slot", overwritten, ""},
	{"S6", "discard padding", lostWake, ""},
	{"T1", "reserve one slot", uncommit, ""},
	{"T3", "reserve one slot", badReserve, ""},
	{"T3 length", "reserve one slot", uncommit, ""},
	{"T3 pad", "reserve one slot", stuck, ""},
	{"T4", "reserve one slot", "", "what is left there names a position that has been passed"},
	{"T5", "reserve one slot", overwritten, ""},
	{"D2 pad", "discard padding", stuck, ""},
	{"D2 length", "copy run", wrongBytes, ""},
	{"D2 end", "copy run", stuck, ""},
	{"D4", "discard padding", stuck, ""},
	{"D5", "copy run", "", aStride},
	{"D6", "discard padding", lostWake, ""},
	{"LE", "lease limit 3", "unmarked duplicate", ""},
	{"LR", "lease limit 3", "delivered again after its release", ""},
	{"K1", "lease limit 3", "", aStride},
	{"K2", "lease limit 3", "wrong delivery count", ""},
	{"J4 length", "lease limit 3", wrongBytes, ""},
	{"J4 word", "lease limit 3", gone, ""},
	{"J1", "lease limit 3", "wrong delivery count", ""},
	{"11.3", "lease limit 3", gone, ""},
	{"J2", "lease limit 3", "unmarked duplicate", ""},
	{"J3", "lease limit 3", "wrong delivery count", ""},
	{"J5", "lease limit 3", "wrong delivery count", ""},
}

const (
	unseen      = "EMPTY while a message was given back"
	overwritten = "payload changed before it was released"
)

func (l left) check(t *testing.T, protocol string, r Result) {
	t.Run(protocol+"/"+l.step, func(t *testing.T) {
		if testing.Short() && r.Truncated {
			t.Skip("not found in a short run")
		}
		require.False(t, r.Truncated)
		fmt.Println(mutantLine(protocol+": "+l.step+" left out", l.config, r.Violates, l.equivalent))
		require.Equal(t, l.violates, r.Violates, strings.Join(r.Trace, "\n"))
	})
}

// TestStepsLeftOut: a protocol without one of its steps violates a property in some configuration.
func TestStepsLeftOut(t *testing.T) {
	for _, l := range mpmcLeft {
		config := mpmcNamed(t, l.config)
		config.LeftOut = l.step
		l.check(t, "MPMC", exploreMPMC(config))
	}
	for _, l := range spscLeft {
		config := spscNamed(t, l.config)
		config.LeftOut = l.step
		l.check(t, "SPSC", exploreSPSC(config))
	}
	fmt.Printf("model: %d steps left out one by one, %d rules changed\n", len(mpmcLeft)+len(spscLeft), len(mpmcMutants)+len(spscMutants))
}

// TestEveryStepIsLeftOut: the tables above have every step of the model, but for those that have a reason.
func TestEveryStepIsLeftOut(t *testing.T) {
	have := map[string]bool{}
	for _, l := range mpmcLeft {
		have[l.step] = true
	}
	for p, step := range steps {
		_, not := notLeftOut[pc(p)]
		require.True(t, have[step.name] != not, "MPMC %s", step.name)
	}
	have = map[string]bool{}
	for _, l := range spscLeft {
		have[l.step] = true
	}
	for p, step := range spscSteps {
		_, not := spscNotLeftOut[spscPC(p)]
		require.True(t, have[step.name] != not, "SPSC %s", step.name)
	}
}

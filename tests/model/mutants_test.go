package model

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// caught names a mutant, the configuration that notices it, and the property that it violates there. A mutant that changes nothing anybody could
// notice has a reason instead.
type caught struct {
	mutant     Mutant
	config     string
	violates   string
	equivalent string
}

const (
	gone       = "a committed message is gone"
	uncommit   = "delivered what nobody committed"
	wrongBytes = "delivered torn, or with a wrong length"
	lostWake   = "lost wake-up"
	robbed     = "a claim was taken from a live producer"
	badSkips   = "skipped is not the number of abandoned claims"
	badReserve = "skipped is not the number of abandoned reservations"
)

var mpmcMutants = []caught{
	{mutant: FreeAscending, config: "batch race", violates: robbed},
	{mutant: JumpToHead, config: "batch", violates: uncommit},
	{mutant: NoLengthRecheck, config: "late recoverer", equivalent: "a later message in the slot of p was claimed with every slot of its length free, so no word of p's lap " +
		"is left below that end; whatever names p itself is changed by CAS or after A2"},
	{mutant: NoBaton, config: "baton", violates: lostWake},
	{mutant: BatonOneWord, config: "baton pad", violates: lostWake},
	{mutant: DiscardSilent, config: "wait discard", violates: lostWake},
	{mutant: PadSilent, config: "wait pad", violates: lostWake},
	{mutant: RescueMoves, config: "rescue", violates: "unmarked duplicate"},
	{mutant: HeadFirst, config: "limit", violates: gone},
	{mutant: NoReturnsBump, config: "no heirs", violates: stuck},
	{mutant: RetireFirst, config: "lease", violates: stuck},
	{mutant: NoSecondLook, config: "batch race", violates: "FULL while there was room"},
	{mutant: LoadBeforeProof, config: "redeliver", violates: uncommit},
	{mutant: BlindClear, config: "baton", violates: lostWake},
	{mutant: NoEpoch, config: "baton", violates: lostWake},
	{mutant: NoLookBeforeSleep, config: "wait batch", violates: lostWake},
	{mutant: NoTick, config: "wait 2P 1C death", violates: stuck},
	{mutant: PublishFirst, config: "lease", violates: uncommit},
	{mutant: NoSkip, config: "no heirs", violates: stuck},
	{mutant: EmptyAtOnce, config: "return", violates: "EMPTY while a message was given back"},
	{mutant: CopyUnproven, config: "baton", violates: "delivered again after its release"},
	{mutant: CountUnchecked, config: "one slot", violates: badSkips},
	{mutant: CountUntagged, config: "limit", violates: badSkips},
	{mutant: CountLate, config: "limit", violates: badSkips},
}

var spscMutants = []caught{
	{mutant: BatchHeadLast, config: "copy batch", violates: wrongBytes},
	{mutant: NoRunEnd, config: "copy run", violates: stuck},
	{mutant: RunInLease, config: "lease runs", violates: wrongBytes},
	{mutant: LengthFirst, config: "lease limit 3", violates: gone},
	{mutant: RunForward, config: "lease limit 3", violates: gone},
	{mutant: JournalKept, config: "lease limit 3", violates: "wrong delivery count"},
	{mutant: JournalKeptByDrop, config: "return drop", violates: "wrong delivery count"},
	{mutant: NoJournal, config: "lease limit 3", violates: "wrong delivery count"},
	{mutant: LeaseLate, config: "lease limit 3", violates: "unmarked duplicate"},
	{mutant: ReleaseFirst, config: "copy", violates: wrongBytes},
	{mutant: PadQuiet, config: "discard padding", violates: lostWake},
	{mutant: ReservedIgnored, config: "reserve one slot", violates: badReserve},
	{mutant: ClearEarly, config: "reserve one slot", violates: badReserve},
	{mutant: CountUntagged, config: "lease drop", violates: "lost counts too much"},
}

// mutantLine is what make mutants collects.
func mutantLine(name, config, violates, equivalent string) string {
	switch {
	case violates != "":
		return fmt.Sprintf("MUTANT model %s caught-by %s: %s", name, config, violates)
	case equivalent != "":
		return fmt.Sprintf("MUTANT model %s equivalent %s", name, equivalent)
	}
	return "MUTANT model " + name + " survived"
}

// TestMutantsAreCaught: a protocol with one rule changed violates a property in some configuration.
func TestMutantsAreCaught(t *testing.T) {
	var table strings.Builder
	check := func(c caught, protocol string, explore func() Result) {
		t.Run(protocol+"/"+string(c.mutant), func(t *testing.T) {
			r := explore()
			if testing.Short() && r.Truncated {
				t.Skip("not found in a short run")
			}
			require.Equal(t, c.violates, r.Violates, strings.Join(r.Trace, "\n"))
			require.False(t, r.Truncated)
			verdict := c.violates
			if c.equivalent != "" {
				verdict = "equivalent: " + c.equivalent
			}
			fmt.Fprintf(&table, "%s  %-52s %-18s %8d  %s\n", protocol, c.mutant, c.config, r.States, verdict)
			fmt.Println(mutantLine(protocol+": "+string(c.mutant), c.config, r.Violates, c.equivalent))
		})
	}
	for _, c := range mpmcMutants {
		check(c, "MPMC", func() Result {
			config := mpmcNamed(t, c.config)
			config.Mutant = c.mutant
			return exploreMPMC(config)
		})
	}
	for _, c := range spscMutants {
		check(c, "SPSC", func() Result {
			config := spscNamed(t, c.config)
			config.Mutant = c.mutant
			return exploreSPSC(config)
		})
	}
	t.Log("\n" + table.String())
}

func mpmcNamed(t *testing.T, name string) Config {
	for _, c := range mpmcConfigs {
		if c.Name == name {
			return c
		}
	}
	require.Fail(t, "no configuration", name)
	return Config{}
}

func spscNamed(t *testing.T, name string) SPSCConfig {
	for _, c := range spscConfigs {
		if c.Name == name {
			return c
		}
	}
	require.Fail(t, "no configuration", name)
	return SPSCConfig{}
}

//go:build linux

package main

import (
	"encoding/json"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/cmd/millrace/internal/bench"
)

func TestBenchMeasuresAndLeavesNothing(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("one core: nothing runs side by side")
	}
	for _, args := range [][]string{
		{"throughput"}, {"throughput", "--kind", "mpmc", "--producers", "2", "--consumers", "2", "--batch", "4"},
		{"latency", "--rate", "10000"}, {"wake"}, {"recover"},
	} {
		t.Run(args[0], func(t *testing.T) {
			tool := newTool(t)
			args := append([]string{"bench", "--duration", "20ms", "--rounds", "2", "-j"}, args...)
			out := tool.run(exitDone, args...).out.Bytes()
			var r bench.Result
			require.NoError(t, json.Unmarshal(out, &r))
			require.Len(t, r.FloorNS, 3)
			for _, f := range r.FloorNS {
				require.Positive(t, f)
			}
			switch r.What {
			case bench.Throughput:
				require.Len(t, r.PerMessage, 2)
				require.Positive(t, r.PerMessage[0])
			case bench.Recover:
				require.GreaterOrEqual(t, r.Producer.Count, 2)
				require.GreaterOrEqual(t, r.Consumer.Count, 2)
			default:
				require.Positive(t, r.Latencies.P50)
				require.GreaterOrEqual(t, r.Latencies.Max, r.Latencies.P50)
			}
			left, err := os.ReadDir(tool.dir)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestBenchRefusesWhatMakesNoSense(t *testing.T) {
	tool := newTool(t)
	for _, args := range [][]string{
		{}, {"speed"}, {"throughput", "--producers", "2"}, {"latency", "--kind", "mpmc", "--consumers", "2"}, {"wake", "--size", "4"},
		{"throughput", "--slots", "100"}, {"recover", "--rounds", "0"},
	} {
		tool.run(exitUsage, append([]string{"bench"}, args...)...)
	}
}

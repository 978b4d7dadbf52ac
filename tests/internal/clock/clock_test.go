//go:build linux

package clock

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/tests/internal/proc"
)

func TestMain(m *testing.M) {
	proc.Main(m, map[string]func(*proc.Child) error{"clock": func(c *proc.Child) error {
		for {
			c.Wait()
			c.Say("%d", Now())
		}
	}})
}

// What one process reads between two looks of another lies between them.
func TestNowIsCommonToProcesses(t *testing.T) {
	p := proc.Start(t, []string{"clock"})
	for range 100 {
		before := Now()
		p.Tell("now")
		line, ok := p.Line()
		require.True(t, ok, p.Errors())
		now, err := strconv.ParseUint(line, 10, 64)
		require.NoError(t, err)
		require.GreaterOrEqual(t, now, before)
		require.LessOrEqual(t, now, Now())
	}
}

package measure_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/measure"
)

// A core executes about one to six instructions a cycle: without its loops, which a compiler might leave out, Width would say far more.
func TestWidth(t *testing.T) {
	require.InDelta(t, 5, measure.Width(), 4.8)
}

//go:build testpoint && linux

package recovery

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
)

// measured is a row with its samples.
type measured struct {
	row
	samples []sample
}

// quantiles returns p50, p99 and the maximum of one clock.
func (m *measured) quantiles(clock func(sample) time.Duration) (p50, p99, most time.Duration) {
	var d []time.Duration
	for _, s := range m.samples {
		d = append(d, clock(s))
	}
	slices.Sort(d)
	at := func(q int) time.Duration { return d[(len(d)*q+99)/100-1] }
	return at(50), at(99), d[len(d)-1]
}

func bySignal(s sample) time.Duration  { return s.signal }
func byRelease(s sample) time.Duration { return s.release }

// misses says which bar the row misses, if any: the promise, and with halves the medians of an idle machine too.
func (m *measured) misses(halves bool) error {
	p50, _, most := m.quantiles(byRelease)
	half := halfOfWaits
	if m.polls() {
		half = halfOfPolls
	}
	switch {
	case most > promised:
		return fmt.Errorf("%s: %v after the release of the lock, promised are %v", m.name(), most, promised)
	case halves && p50 > half:
		return fmt.Errorf("%s: p50 is %v after the release of the lock, the bar is %v", m.name(), p50, half)
	}
	return nil
}

// markdown makes the table.
func markdown(rows []measured) string {
	var b strings.Builder
	b.WriteString("| who dies | ring | who waits | ends with | kills | p50, p99, max from the release | p50, p99, max from the signal |\n|---|---|---|---|---|---|---|\n")
	for _, m := range rows {
		kind := m.kind
		if kind == 0 {
			kind = ring.MPMC
		}
		fmt.Fprintf(&b, "| %s | %v | %s | %s | %d | %s | %s |\n", m.state, kind, m.peer, m.want, len(m.samples), three(m.quantiles(byRelease)), three(m.quantiles(bySignal)))
	}
	return b.String()
}

func three(p50, p99, most time.Duration) string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }
	return ms(p50) + ", " + ms(p99) + ", " + ms(most) + " ms"
}

// load is the load average of the last minute: on an idle machine it is far below the number of processors.
func load(t *testing.T) string {
	text, err := os.ReadFile("/proc/loadavg")
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// machine says where the figures are from.
func machine(t *testing.T, load string) string {
	var u syscall.Utsname
	require.NoError(t, syscall.Uname(&u))
	var release strings.Builder
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		release.WriteByte(byte(c))
	}
	parts := strings.SplitN(release.String(), ".", 3)
	return fmt.Sprintf("Measured with %s on Linux %s, %s, %d processors, load average %s before.",
		runtime.Version(), strings.Join(parts[:min(2, len(parts))], "."), runtime.GOARCH, runtime.NumCPU(), load)
}

// write puts the table between the marks of the document.
func write(t *testing.T, load, table string) {
	text, err := os.ReadFile(documentPath)
	require.NoError(t, err)
	marks := regexp.MustCompile(`(?s)(<!-- recover-time -->\n).*?(<!-- end -->)`)
	require.Len(t, marks.FindAll(text, -1), 1, "%s has one place for the table", documentPath)
	text = marks.ReplaceAllFunc(text, func(old []byte) []byte {
		m := marks.FindSubmatch(old)
		return []byte(string(m[1]) + machine(t, load) + "\n\n" + table + string(m[2]))
	})
	require.NoError(t, os.WriteFile(documentPath, text, 0o644))
}

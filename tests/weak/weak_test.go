package weak

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// explored is shared by the tests.
var explored = sync.OnceValue(ExploreAll)

// mutants are run once.
var mutants = sync.OnceValue(func() []Mutant {
	text, err := os.ReadFile(ordering)
	if err != nil {
		panic(err)
	}
	return explored().Mutants(Rows(string(text)))
})

const ordering = "../../docs/ORDERING.md"

func rows(t *testing.T) []Row {
	text, err := os.ReadFile(ordering)
	require.NoError(t, err)
	rows := Rows(string(text))
	require.Greater(t, len(rows), 50, "the table is somewhere else")
	return rows
}

// TestPrograms: with the orders of the table every program keeps its properties in every execution.
func TestPrograms(t *testing.T) {
	states, ends := 0, 0
	for _, p := range Programs() {
		t.Run(p.Name, func(t *testing.T) {
			r := explored().Results[p.Name]
			require.Empty(t, r.Violates, strings.Join(r.Trace, "\n"))
			require.Zero(t, r.Cut)
			require.NotZero(t, r.Ends)
			t.Log(r)
			states, ends = states+r.States, ends+r.Ends
		})
	}
	fmt.Printf("weak: %d programs, %d states, %d ends of executions\n", len(Programs()), states, ends)
}

// TestProgramsHaveNames: a result belongs to one program.
func TestProgramsHaveNames(t *testing.T) {
	require.Len(t, explored().Results, len(Programs()))
}

// TestEveryRowIsUsed: each row of the table that concerns shared memory is a step of a program, or has a reason why not; and programs use no others.
func TestEveryRowIsUsed(t *testing.T) {
	inTable := map[string]bool{}
	for _, row := range rows(t) {
		inTable[row.Name] = true
		if row.Private() {
			continue
		}
		used := len(explored().Uses[row.Name]) > 0
		why, excluded := Unmodelled[row.Name]
		require.True(t, used != excluded, "%s (%s): used by a program %v, left out because %q", row.Name, row.Where, used, why)
	}
	for row := range explored().Uses {
		require.True(t, inTable[row], "a program uses %s, which is no row of the table", row)
	}
	for row := range Unmodelled {
		require.True(t, inTable[row], "%s is no row of the table", row)
	}
}

var update = flag.Bool("update", false, "rewrite the weak part of the last column of docs/ORDERING.md")

// TestOrderingShowsThePrograms: the last column of the table names the programs that notice a weaker order.
func TestOrderingShowsThePrograms(t *testing.T) {
	caught := map[string][]string{}
	for _, m := range mutants() {
		if by := m.Caught; !m.Drop {
			if by == "" {
				by = "equivalent"
			}
			caught[m.Row] = append(caught[m.Row], fmt.Sprintf("%s: %s", m.To, by))
		}
	}
	text, err := os.ReadFile(ordering)
	require.NoError(t, err)
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		row, ok := parse(line)
		if !ok {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(line, " |"), " | ")
		last := len(cells) - 1
		shown, _, _ := strings.Cut(cells[last], "weak ")
		if shown = strings.TrimSuffix(shown, "; "); shown == "" {
			shown = "—"
		}
		if by := caught[row.Name]; by != nil {
			shown = strings.TrimPrefix(strings.TrimPrefix(shown, "—")+"; weak "+strings.Join(by, ", "), "; ")
		}
		if cells[last] != shown && !*update {
			t.Errorf("%s:%d: the last column says %q, it should say %q; run go test ./tests/weak -update", ordering, i+1, cells[last], shown)
		}
		cells[last] = shown
		lines[i] = strings.Join(cells, " | ") + " |"
	}
	if *update {
		require.NoError(t, os.WriteFile(ordering, []byte(strings.Join(lines, "\n")), 0o666))
	}
}

// TestMutants: each row with the next weaker order, and each step left out, violates a property, or has a reason why it cannot.
func TestMutants(t *testing.T) {
	needed := map[string]bool{}
	caught := 0
	for _, m := range mutants() {
		fmt.Println(m)
		if m.Caught != "" {
			caught++
			require.NotContains(t, Equivalent, m.Name(), "caught by "+m.Caught)
			continue
		}
		needed[m.Name()] = true
		require.Contains(t, Equivalent, m.Name(), "nobody notices it")
	}
	for name := range Equivalent {
		require.True(t, needed[name], "%s is no mutant", name)
	}
	fmt.Printf("weak: %d mutants caught, %d equivalent\n", caught, len(needed))
}

// TestCClientKeepsToTheTable: where the C client names a step and its order, the table has it, and the access on that line has that order.
func TestCClientKeepsToTheTable(t *testing.T) {
	inTable := map[string]bool{}
	for _, row := range rows(t) {
		inTable[row.Name] = true
	}
	headers, err := filepath.Glob("../../include/*.h")
	require.NoError(t, err)
	tag := regexp.MustCompile(`order: ([A-Z]\d+) (rlx|acq|rel|acqrel|sc)\b`)
	access := regexp.MustCompile(`mr_(?:load|store)_(rlx|acq|rel|sc)\(`)
	tags := 0
	for _, path := range headers {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for i, line := range strings.Split(string(text), "\n") {
			m := tag.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			tags++
			row := m[1] + " " + m[2]
			require.True(t, inTable[row] || inTable[row+" REQUIRED"], "%s:%d: the table has no row %s", path, i+1, row)
			if a := access.FindStringSubmatch(line); a != nil && !strings.Contains(line[:strings.Index(line, "order:")], "&&") {
				require.GreaterOrEqual(t, orderNames[a[1]], orderNames[m[2]], "%s:%d: %s is weaker than its tag", path, i+1, a[0])
			}
		}
	}
	require.Greater(t, tags, 50)
}

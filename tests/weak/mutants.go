package weak

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Row is one row of the table in docs/ORDERING.md.
type Row struct {
	Name  string // tag and order
	Where string
	Field string
}

// Private says whether the row is about words that one process has for itself.
func (r Row) Private() bool { return strings.Contains(r.Field, "own process") }

// Rows reads the table.
func Rows(ordering string) (rows []Row) {
	for _, line := range strings.Split(ordering, "\n") {
		if row, ok := parse(line); ok {
			rows = append(rows, row)
		}
	}
	return rows
}

// parse reads one line of the table.
func parse(line string) (Row, bool) {
	if !tagRow.MatchString(line) {
		return Row{}, false
	}
	c := strings.Split(strings.Trim(line, "|"), "|")
	for i := range c {
		c[i] = strings.TrimSpace(c[i])
	}
	return Row{Name: c[0] + " " + c[1], Where: c[2], Field: c[3]}, true
}

var tagRow = regexp.MustCompile(`^\| [A-Z]\d+ \|`)

// Mutant is the algorithms with one thing changed: a row has the next weaker order, or a step is left out.
type Mutant struct {
	Row    string
	To     Order
	Drop   bool
	Caught string // the program that notices, or ""
	Why    string // the property that it violates there; if nobody notices, why nobody could
}

// Name names the mutant in tables.
func (m Mutant) Name() string {
	if m.Drop {
		return m.Row + " left out"
	}
	return fmt.Sprintf("%s as %s", m.Row, m.To)
}

// String is the line that make mutants collects.
func (m Mutant) String() string {
	switch {
	case m.Caught != "":
		return fmt.Sprintf("MUTANT weak %s caught-by %s: %s", m.Name(), m.Caught, m.Why)
	case m.Why != "":
		return fmt.Sprintf("MUTANT weak %s equivalent %s", m.Name(), m.Why)
	}
	return fmt.Sprintf("MUTANT weak %s survived", m.Name())
}

func (m Mutant) orders() Orders {
	if m.Drop {
		return Orders{Dropped: m.Row}
	}
	return Orders{Lowered: map[string]Order{m.Row: m.To}}
}

// Lower returns the mutants of a row: sc becomes acqrel (of which a load or a store has one half), acqrel becomes each half, a half becomes rlx.
func Lower(row string) (all []Mutant) {
	next := map[Order][]Order{SC: {AcqRel}, AcqRel: {Acq, Rel}, Acq: {Rlx}, Rel: {Rlx}}
	for _, to := range next[written(row)] {
		all = append(all, Mutant{Row: row, To: to})
	}
	return all
}

// Explored are all programs with the table as it is written: what each row and each look is used by, and what was found.
type Explored struct {
	Uses    map[string][]*Program
	Drops   map[string][]*Program
	Results map[string]Result
}

// ExploreAll explores all programs.
func ExploreAll() Explored {
	x := Explored{map[string][]*Program{}, map[string][]*Program{}, map[string]Result{}}
	for _, p := range Programs() {
		o := Orders{used: map[string]bool{}, drops: map[string]bool{}}
		x.Results[p.Name] = Explore(p, o)
		for row := range o.used {
			x.Uses[row] = append(x.Uses[row], p)
		}
		for step := range o.drops {
			x.Drops[step] = append(x.Drops[step], p)
		}
	}
	return x
}

// Catch runs a mutant on the programs that it concerns until one of them notices.
func (x Explored) Catch(m Mutant) Mutant {
	programs := x.Uses[m.Row]
	if m.Drop {
		programs = x.Drops[m.Row]
	}
	programs = slices.Clone(programs)
	slices.SortStableFunc(programs, func(a, b *Program) int { return x.Results[a.Name].States - x.Results[b.Name].States })
	for _, p := range programs {
		if r := Explore(p, m.orders()); r.Violates != "" {
			m.Caught, m.Why = p.Name, r.Violates
			return m
		}
	}
	m.Why = Equivalent[m.Name()]
	return m
}

// Mutants runs every mutant: each row of the table that a program uses, with the next weaker order; each step of leftOut, left out.
func (x Explored) Mutants(rows []Row) (all []Mutant) {
	for _, row := range rows {
		for _, m := range Lower(row.Name) {
			if len(x.Uses[row.Name]) > 0 {
				all = append(all, x.Catch(m))
			}
		}
	}
	for _, step := range leftOut {
		all = append(all, x.Catch(Mutant{Row: step, Drop: true}))
	}
	return all
}

// leftOut are the steps that are left out here, because the model in tests/model does not have them: creation, sessions, the end of the stream, the
// barrier, held. A store goes by its row.
var leftOut = []string{
	"F0 rlx", "F1 rel", "R3 rlx", "R4 sc", "R5 rel", "X2 rel", "X3 rel", "X6 rel", "L4 rel", "V6 rel", "W2 sc REQUIRED", "Y1 acqrel",
	"12.2", "12.3", "12.4", "12.5",
}

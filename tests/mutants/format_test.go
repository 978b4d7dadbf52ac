package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The steps of docs/FORMAT.md, the steps of the model, the rows of docs/ORDERING.md and the mutants belong together: what a table says of one is looked up
// in the others.

var rewrite = flag.Bool("update", false, "rewrite the table of steps in docs/VERIFICATION.md")

const verification = "../../docs/VERIFICATION.md"

func text(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

// numbered are the steps that FORMAT 7 to 12 number.
func numbered(t *testing.T) (all []string) {
	format := text(t, "../../docs/FORMAT.md")
	_, body, ok := strings.Cut(format, "\n## 7. ")
	require.True(t, ok)
	body, _, ok = strings.Cut(body, "\n## 13. ")
	require.True(t, ok)
	for _, m := range regexp.MustCompile(`\b([PCLSDJVWNRX]\d)\b`).FindAllStringSubmatch(body, -1) {
		all = append(all, m[1])
	}
	for _, m := range regexp.MustCompile(`\b([PCLSDJVWNRX])(\d)\.\.[A-Z]?(\d)\b`).FindAllStringSubmatch(body, -1) { // P4..P8
		for i := m[2][0]; i <= m[3][0]; i++ {
			all = append(all, m[1]+string(i))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// elsewhere says what becomes of a step that no mutant leaves out by its name.
var elsewhere = map[string]string{
	"P1": "everything else follows from what it reads",
	"P8": "notify: N1, N2, *P8 does not notify not_full of padding*, *Discard does not notify not_empty*",
	"C3": "without it there is nothing to deliver; *C4 changes whatever word is there*",
	"C7": "notify: N1, N2",
	"D1": "everything else follows from what it reads",
	"D3": "without it there is nothing to deliver; *D4 before D3*",
	"L1": "held, the row L4 rel of the C form",
	"R1": "a lock of the kernel; `TestRegistration` of tests/process and the tests of seg",
	"R2": "a lock of the kernel; *V2 before V1*",
	"V1": "a lock of the kernel; *V2 before V1*",
	"V5": "notify, one step with V4 in the model",
	"X1": "a discard, a give-back: P6, R1 to R4, J1 to J4",
	"X4": "notify: N2",
	"X5": "a lock of the kernel; the crash tests",
}

// leftOut are the mutants of docs/MUTANTS.md that leave out a part of the step.
func leftOut(t *testing.T, step string) (all []string) {
	doc := text(t, "../../docs/MUTANTS.md")
	for _, s := range suites[:2] {
		_, table, _, ok := s.section(doc)
		require.True(t, ok, s.name)
		if (step[0] == 'R' || step[0] == 'X') != (s.name == "weak") && strings.Contains("RX", step[:1]) {
			continue // R1 to R4 of the model are the steps of Return, which FORMAT 9.4 does not number
		}
		for _, m := range regexp.MustCompile(`(?m)^\| (.+? left out) \| (\w+) \|`).FindAllStringSubmatch(table, -1) {
			name := m[1][strings.LastIndex(m[1], ": ")+1:]
			if strings.HasPrefix(strings.TrimSpace(name), step+" ") {
				all = append(all, fmt.Sprintf("%s %s: %s", s.name, m[1], m[2]))
			}
		}
	}
	return all
}

// TestEveryStepOfTheFormatIsLeftOut: each numbered step has a mutant without it, or a reason why not.
func TestEveryStepOfTheFormatIsLeftOut(t *testing.T) {
	steps := numbered(t)
	require.Greater(t, len(steps), 50)
	for _, step := range steps {
		why, have := elsewhere[step]
		require.True(t, have != (len(leftOut(t, step)) > 0), "%s: mutants %v, %q", step, leftOut(t, step), why)
	}
	for step := range elsewhere {
		require.Contains(t, steps, step)
	}
}

// modelSteps are the steps of the model that go by the tag.
func modelSteps(t *testing.T, tag string) (all []string) {
	for _, file := range []string{"mpmc_steps.go", "spsc_steps.go"} {
		for _, m := range regexp.MustCompile(`\{"([^"]+)", \(`).FindAllStringSubmatch(text(t, "../model/"+file), -1) {
			if name, _, _ := strings.Cut(m[1], " "); name == tag {
				all = append(all, m[1])
			}
		}
	}
	return all
}

// TestTableOfSteps: docs/VERIFICATION.md has the table that leads from a step of the format to its rows of the table of orders, which have the places in the
// code, to the steps of the model, and to the programs of the C form.
func TestTableOfSteps(t *testing.T) {
	type entry struct{ rows, programs []string }
	tags, entries := numbered(t), map[string]*entry{}
	for _, l := range strings.Split(text(t, "../../docs/ORDERING.md"), "\n") {
		c := strings.Split(strings.Trim(l, "|"), " | ")
		m := regexp.MustCompile(`^\| ([A-Z]\d+) \| (\w+)`).FindStringSubmatch(l)
		if m == nil || strings.Contains(c[3], "own process") {
			continue
		}
		if !slices.Contains(tags, m[1]) {
			tags = append(tags, m[1])
		}
		e := entries[m[1]]
		if e == nil {
			e = &entry{}
			entries[m[1]] = e
		}
		e.rows = append(e.rows, m[2])
		if _, by, ok := strings.Cut(l, "weak "); ok {
			for _, p := range regexp.MustCompile(`(?:rlx|acq|rel|acqrel): ([^,|]+)`).FindAllStringSubmatch(by, -1) {
				if name := strings.TrimSpace(p[1]); name != "equivalent" && !slices.Contains(e.programs, name) {
					e.programs = append(e.programs, name)
				}
			}
		}
	}
	slices.Sort(tags)
	var b strings.Builder
	b.WriteString("\n| step | orders | in the model | noticed in the C form by |\n|---|---|---|---|\n")
	cell := func(s []string) string {
		if len(s) == 0 {
			return "—"
		}
		return strings.Join(s, ", ")
	}
	for _, tag := range tags {
		e := entries[tag]
		if e == nil {
			e = &entry{}
		}
		steps := modelSteps(t, tag)
		if strings.Contains("RXK", tag[:1]) { // other steps go by these tags there
			steps = nil
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", tag, cell(e.rows), cell(steps), cell(e.programs))
	}
	b.WriteString("\n")
	doc := text(t, verification)
	before, rest, ok := strings.Cut(doc, "<!-- steps -->\n")
	table, after, closed := strings.Cut(rest, "<!-- end steps -->")
	require.True(t, ok && closed)
	if *rewrite {
		require.NoError(t, os.WriteFile(verification, []byte(before+"<!-- steps -->\n"+b.String()+"<!-- end steps -->"+after), 0o666))
		return
	}
	require.Equal(t, table, b.String(), "run go test ./tests/mutants -update")
}

func TestLinesAreRead(t *testing.T) {
	m := line.FindAllStringSubmatch("MUTANT a b caught-by c d\nMUTANT e survived\nno\nMUTANT f equivalent g\n", -1)
	require.Len(t, m, 3)
	require.Equal(t, []string{"a b", "caught-by", "c d"}, m[0][1:])
	require.Equal(t, []string{"e", "survived", ""}, m[1][1:])
	require.Equal(t, []string{"f", "equivalent", "g"}, m[2][1:])
}

func TestDocumentKeepsOtherSuites(t *testing.T) {
	a, b := suites[0], suites[1]
	doc := a.write("# Mutants\n", []mutant{{"x", "survived", ""}})
	doc = b.write(doc, []mutant{{"y", "caught-by", "z"}})
	doc = a.write(doc, []mutant{{"x", "equivalent", "w"}})
	require.NoError(t, a.compare(doc, []mutant{{"x", "equivalent", "something else"}}))
	require.NoError(t, b.compare(doc, []mutant{{"y", "caught-by", "z"}}))
	require.Error(t, b.compare(doc, []mutant{{"y", "survived", ""}}))
	require.Error(t, b.compare(doc, nil))
}

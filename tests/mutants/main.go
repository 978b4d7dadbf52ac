// Command mutants runs the suites that break the protocol on purpose, and shows one table of all mutants: each caught by a test, or with the reason why
// nobody could notice it.
//
//	go run ./tests/mutants [-update] [-check] [SUITE...]
//
// A suite prints a line for each mutant: MUTANT name caught-by test, MUTANT name equivalent reason, or MUTANT name survived. Without arguments all suites
// are run; one whose target the Makefile does not have is left out with a message. -update writes the tables into docs/MUTANTS.md, -check fails when it has
// other mutants than the suites that were run.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

const document = "docs/MUTANTS.md"

// suite is a command that prints mutants.
type suite struct {
	name, about string
	command     []string
}

var suites = []suite{
	{"model", "the protocols on paper, one rule changed or one step left out (`tests/model`)", []string{"go", "test", "-count=1", "-v", "-run", "Mutants|StepsLeftOut", "./tests/model"}},
	{"weak", "the algorithms in C form, one order lowered or one step left out (`tests/weak`)", []string{"go", "test", "-count=1", "-v", "-run", "Mutants", "./tests/weak"}},
	{"crash", "the Go code, broken in one place, under processes that are killed (`make crash-mutants`)", nil},
	{"linearizability", "the Go code, broken in one place, under histories (`make linearizability-mutants`)", nil},
	{"fuzz", "the Go code, broken in one place, under hostile bytes (`make fuzz-mutants`)", nil},
	{"soak", "the Go code, broken in one place, under the soak (`make soak-mutants`)", nil},
}

type mutant struct{ name, verdict, by string }

var line = regexp.MustCompile(`(?m)^MUTANT (.+?) (caught-by|equivalent|survived)(?:$| (.*)$)`)

func main() {
	update := flag.Bool("update", false, "write "+document)
	check := flag.Bool("check", false, "fail when "+document+" has other mutants")
	flag.Parse()
	if err := run(flag.Args(), *update, *check); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(names []string, update, check bool) error {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		return err
	}
	survivors := 0
	for _, s := range suites {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		if s.command == nil {
			target := s.name + "-mutants"
			if !strings.Contains(string(makefile), "\n"+target+":") {
				fmt.Printf("== %s: left out, the Makefile has no target %s\n", s.name, target)
				continue
			}
			s.command = []string{"make", "--no-print-directory", target}
		}
		mutants, err := s.run()
		if err != nil {
			return err
		}
		survivors += s.show(mutants)
		doc, err := os.ReadFile(document)
		if err != nil {
			return err
		}
		if check {
			if err := s.compare(string(doc), mutants); err != nil {
				return err
			}
		}
		if update {
			if err := os.WriteFile(document, []byte(s.write(string(doc), mutants)), 0o666); err != nil {
				return err
			}
		}
	}
	if survivors > 0 {
		return fmt.Errorf("%d mutants survive", survivors)
	}
	return nil
}

// run runs the suite. It may fail because a mutant survives, which shows in the table; without mutants it has failed otherwise.
func (s suite) run() (all []mutant, err error) {
	fmt.Printf("== %s: %s\n", s.name, strings.Join(s.command, " "))
	var out bytes.Buffer
	cmd := exec.Command(s.command[0], s.command[1:]...)
	cmd.Stdout, cmd.Stderr = &out, io.MultiWriter(&out)
	failed := cmd.Run()
	for _, m := range line.FindAllStringSubmatch(out.String(), -1) {
		all = append(all, mutant{strings.TrimPrefix(m[1], s.name+" "), m[2], m[3]})
	}
	if len(all) == 0 || failed != nil && !slices.ContainsFunc(all, func(m mutant) bool { return m.verdict == "survived" }) {
		return nil, fmt.Errorf("%s: %d mutants, %v\n%s", s.name, len(all), failed, out.String())
	}
	slices.SortStableFunc(all, func(a, b mutant) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// show prints the table and returns how many mutants survive.
func (s suite) show(all []mutant) (survivors int) {
	count := map[string]int{}
	for _, m := range all {
		count[m.verdict]++
		fmt.Printf("   %-70s %-10s %s\n", m.name, m.verdict, m.by)
	}
	fmt.Printf("   %d mutants: %d caught, %d equivalent, %d survive\n", len(all), count["caught-by"], count["equivalent"], count["survived"])
	return count["survived"]
}

// marks are the lines around the table of a suite in the document.
func (s suite) marks() (begin, end string) {
	return "<!-- mutants: " + s.name + " -->\n", "<!-- end " + s.name + " -->\n"
}

// section returns where the table of the suite stands in the document.
func (s suite) section(doc string) (before, table, after string, ok bool) {
	begin, end := s.marks()
	before, rest, found := strings.Cut(doc, begin)
	table, after, closed := strings.Cut(rest, end)
	return before, table, after, found && closed
}

// write puts the table of the suite into the document.
func (s suite) write(doc string, all []mutant) string {
	var b strings.Builder
	count := map[string]int{}
	for _, m := range all {
		count[m.verdict]++
	}
	fmt.Fprintf(&b, "\n%d mutants: %d caught, %d equivalent, %d survive.\n\n| mutant | verdict | by what, or why |\n|---|---|---|\n",
		len(all), count["caught-by"], count["equivalent"], count["survived"])
	for _, m := range all {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m.name, strings.TrimSuffix(m.verdict, "-by"), strings.ReplaceAll(m.by, "|", "\\|"))
	}
	b.WriteString("\n")
	begin, end := s.marks()
	if before, _, after, ok := s.section(doc); ok {
		return before + begin + b.String() + end + after
	}
	return doc + "\n## " + s.name + "\n\n" + strings.ToUpper(s.about[:1]) + s.about[1:] + ".\n\n" + begin + b.String() + end
}

// compare says whether the document has the same mutants with the same verdicts. By what one is caught may differ from run to run.
func (s suite) compare(doc string, all []mutant) error {
	_, table, _, ok := s.section(doc)
	if !ok {
		return fmt.Errorf("%s has no table of %s; run make mutants-update", document, s.name)
	}
	var want []string
	for _, m := range all {
		want = append(want, fmt.Sprintf("| %s | %s |", m.name, strings.TrimSuffix(m.verdict, "-by")))
	}
	have := regexp.MustCompile(`(?m)^\| .+? \| (?:caught|equivalent|survived) \|`).FindAllString(table, -1)
	for _, w := range want {
		if !slices.Contains(have, w) {
			return fmt.Errorf("%s lacks %s; run make mutants-update", document, w)
		}
	}
	if len(have) != len(want) {
		return fmt.Errorf("%s has %d mutants of %s, there are %d; run make mutants-update", document, len(have), s.name, len(want))
	}
	return nil
}

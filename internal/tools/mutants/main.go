// Command mutants breaks the library in one place after the other and requires that a check notices each time.
//
//	mutants -table FILE -by NAME [-only PART] -- COMMAND ...
//
// The table lists the mutants: a line "mutant NAME FILE", then lines that begin with "-" and are in FILE once, one after the other, and lines that begin with
// "+" and take their place. In the command, {overlay} becomes a file for go build -overlay. A mutant that does not build is an error of the table.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// mutant is the library with one thing wrong.
type mutant struct {
	name, file string
	old, new   []string
}

func main() {
	table := flag.String("table", "", "the mutants")
	by := flag.String("by", "", "what notices them")
	only := flag.String("only", "", "only those whose name contains this")
	verbose := flag.Bool("v", false, "show the output of the command")
	flag.Parse()
	if err := run(*table, *by, *only, *verbose, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(table, by, only string, verbose bool, command []string) error {
	if len(command) == 0 {
		return errors.New("a command is needed")
	}
	text, err := os.ReadFile(table)
	if err != nil {
		return err
	}
	mutants, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", table, err)
	}
	dir, err := os.MkdirTemp("", "millrace-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	survived := 0
	for _, m := range mutants {
		if !strings.Contains(m.name, only) {
			continue
		}
		overlay, err := m.overlay(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if out, err := exec.Command("go", "build", "-overlay", overlay, "./"+filepath.Dir(m.file)).CombinedOutput(); err != nil {
			return fmt.Errorf("%s does not build: %w\n%s", m.name, err, out)
		}
		args := make([]string, len(command))
		for i, a := range command {
			args[i] = strings.ReplaceAll(a, "{overlay}", overlay)
		}
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if verbose {
			fmt.Printf("%s", out)
		}
		var exit *exec.ExitError
		switch {
		case err == nil:
			survived++
			fmt.Printf("MUTANT %s survived\n", m.name)
		case errors.As(err, &exit):
			fmt.Printf("MUTANT %s caught-by %s\n", m.name, by)
		default:
			return err
		}
	}
	if survived > 0 {
		return fmt.Errorf("%d survived", survived)
	}
	return nil
}

// parse reads a table.
func parse(text string) (list []mutant, err error) {
	for i, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) == 3 && f[0] == "mutant":
			list = append(list, mutant{name: f[1], file: f[2]})
		case line == "" || line[0] == '#':
		case len(list) > 0 && line[0] == '-':
			list[len(list)-1].old = append(list[len(list)-1].old, line[1:])
		case len(list) > 0 && line[0] == '+':
			list[len(list)-1].new = append(list[len(list)-1].new, line[1:])
		default:
			return nil, fmt.Errorf("line %d: %q", i+1, line)
		}
	}
	return list, nil
}

// overlay writes the changed file and the list that puts it in the place of the original.
func (m mutant) overlay(dir string) (string, error) {
	path, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	source, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	changed, err := m.apply(string(source))
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, m.name+".go")
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{path: to}})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, m.name+".json")
	return name, errors.Join(os.WriteFile(to, []byte(changed), 0o600), os.WriteFile(name, list, 0o600))
}

// apply changes the source. Lines are compared without the white space around them.
func (m mutant) apply(source string) (string, error) {
	lines := strings.Split(source, "\n")
	at := -1
	for i := 0; i+len(m.old) <= len(lines); i++ {
		same := len(m.old) > 0
		for j, old := range m.old {
			same = same && strings.TrimSpace(lines[i+j]) == strings.TrimSpace(old)
		}
		if same && at >= 0 {
			return "", fmt.Errorf("the lines are in %s twice: %d and %d", m.file, at+1, i+1)
		}
		if same {
			at = i
		}
	}
	if at < 0 {
		return "", fmt.Errorf("the lines are not in %s: %q", m.file, m.old)
	}
	return strings.Join(lines[:at], "\n") + "\n" + strings.Join(m.new, "\n") + "\n" + strings.Join(lines[at+len(m.old):], "\n"), nil
}

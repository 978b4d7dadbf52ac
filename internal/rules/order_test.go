package rules

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every atomic operation on shared memory carries an order tag, and docs/ORDERING.md has a row for each tag and order.

const orderingFile = "docs/ORDERING.md"

// atomicNames are the operations that order memory.
var atomicNames = []string{"Load", "Store", "Add", "Swap", "CompareAndSwap", "And", "Or"}

// isAtomic says whether a call is an atomic operation: a method or function of sync/atomic, a store of atomicx, or ring's publish.
func isAtomic(info *types.Info, call *ast.CallExpr) bool {
	var id *ast.Ident
	switch f := ast.Unparen(call.Fun).(type) {
	case *ast.SelectorExpr:
		id = f.Sel
	case *ast.Ident:
		id = f
	default:
		return false
	}
	fn, ok := info.Uses[id].(*types.Func)
	if !ok || fn.Pkg() == nil {
		return false
	}
	switch fn.Pkg().Path() {
	case "sync/atomic":
		return slices.ContainsFunc(atomicNames, func(n string) bool { return strings.HasPrefix(fn.Name(), n) })
	case module + "/internal/atomicx":
		return !slices.Contains([]string{"Prefetch", "TakeLines", "Delay"}, fn.Name()) // they order nothing, and give no values
	case module + "/ring":
		return fn.Name() == "publish"
	}
	return false
}

// exports maps the packages that the core needs, in one configuration, to their export data, and names the files of the core.
func exports(t *testing.T, tags string) (data map[string]string, sources map[string][]string) {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-tags", tags, "-f", "{{.ImportPath}}\t{{.Export}}\t{{range .GoFiles}}{{.}} {{end}}"}
	for _, p := range core {
		args = append(args, "./"+p)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	data, sources = map[string]string{}, map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		f := strings.Split(line, "\t")
		data[f[0]] = f[1]
		if p, ok := strings.CutPrefix(f[0], module+"/"); ok && slices.Contains(core, p) {
			sources[p] = strings.Fields(f[2])
		}
	}
	return data, sources
}

func TestEveryAtomicNamesItsOrder(t *testing.T) {
	for _, tags := range []string{"", "invariants", "testpoint"} {
		data, sources := exports(t, tags)
		fset := token.NewFileSet()
		imp := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(data[path]) })
		for _, p := range core {
			var syntax []*ast.File
			for _, name := range sources[p] {
				syntax = append(syntax, parse(t, fset, p+"/"+name))
			}
			info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
			if _, err := (&types.Config{Importer: imp}).Check(module+"/"+p, fset, syntax, info); err != nil {
				t.Fatal(err)
			}
			calls := 0
			for _, f := range syntax {
				tagged := taggedLines(fset, f, read(t, fset.Position(f.Pos()).Filename))
				ast.Inspect(f, func(n ast.Node) bool {
					if call, ok := n.(*ast.CallExpr); ok && isAtomic(info, call) {
						calls++
						if at := fset.Position(call.Pos()); !tagged[at.Line] && !tagged[fset.Position(call.End()).Line] {
							t.Errorf("%s: an atomic operation without an order tag", at)
						}
					}
					return true
				})
			}
			if calls == 0 {
				t.Errorf("no atomic operation found in %s (tags %q): the rule looks in the wrong place", p, tags)
			}
		}
	}
}

const mark = "// order: "

// taggedLines are the lines that an order tag speaks for: its own, or the one behind a comment group that stands alone.
func taggedLines(fset *token.FileSet, f *ast.File, source []byte) map[int]bool {
	lines := map[int]bool{}
	text := strings.Split(string(source), "\n")
	for _, g := range f.Comments {
		for _, c := range g.List {
			if !strings.HasPrefix(c.Text, mark) {
				continue
			}
			line := fset.Position(c.Pos()).Line
			lines[line] = true
			if strings.HasPrefix(strings.TrimSpace(text[line-1]), "//") {
				lines[fset.Position(g.End()).Line+1] = true
			}
		}
	}
	return lines
}

// step is one tag in one package with one order. A tag may stand for a store and for the loads that look at the same word: two steps.
type step struct{ pkg, tag, order string }

var (
	tagged = regexp.MustCompile(`^([A-Z]\d+) (rlx|acq|rel|acqrel|sc)( REQUIRED)?\b`)
	// private marks atomics on words that no other process sees and that are not part of a protocol between goroutines worth a row.
	private = regexp.MustCompile(`^heap$|^heap, |^rlx, private to this process`)
)

// steps collects the tags of the code: for each step its places, as the table writes them.
func steps(t *testing.T) map[step][]string {
	found := map[step][]string{}
	for _, path := range files(t, func(path string) bool {
		return slices.Contains(core, filepath.ToSlash(filepath.Dir(path))) && isGo(path) && !isTest(path)
	}) {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, read(t, path), parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range f.Comments {
			for _, c := range g.List {
				text, ok := strings.CutPrefix(c.Text, mark)
				if !ok || private.MatchString(text) {
					continue
				}
				at := fset.Position(c.Pos())
				m := tagged.FindStringSubmatch(text)
				if m == nil {
					t.Errorf("%s: %q does not begin with a tag and an order", at, c.Text)
					continue
				}
				s := step{filepath.ToSlash(filepath.Dir(path)), m[1], m[2] + m[3]}
				place := fmt.Sprintf("%s %s", filepath.Base(path), enclosing(fset, f, at.Line))
				if !slices.Contains(found[s], place) {
					found[s] = append(found[s], place)
				}
			}
		}
	}
	for s, places := range found { // "sc REQUIRED" at one place is required at all
		if required := (step{s.pkg, s.tag, "sc REQUIRED"}); s.order == "sc" && found[required] != nil {
			for _, p := range places {
				if !slices.Contains(found[required], p) {
					found[required] = append(found[required], p)
				}
			}
			delete(found, s)
		}
	}
	for _, places := range found {
		slices.Sort(places)
	}
	return found
}

// enclosing returns the name of the function around a line, or that of the one that the line documents.
func enclosing(fset *token.FileSet, f *ast.File, line int) string {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if fset.Position(fn.Pos()).Line <= line && line <= fset.Position(fn.End()).Line {
			return fn.Name.Name
		}
	}
	return "?"
}

// where writes places as the table does: file, then functions.
func where(pkg string, places []string) string {
	var b strings.Builder
	last := ""
	for _, p := range places {
		file, fn, _ := strings.Cut(p, " ")
		if file != last {
			if last != "" {
				b.WriteString("; ")
			}
			fmt.Fprintf(&b, "%s/%s %s", pkg, file, fn)
			last = file
			continue
		}
		b.WriteString(", " + fn)
	}
	return b.String()
}

// orderingRow is one row of the table. Columns: tag, order, where, field, pairs with, what breaks without it, shown by.
const orderingColumns = 7

func TestOrderingTableMatchesTheCode(t *testing.T) {
	want := steps(t)
	lines := strings.Split(string(read(t, orderingFile)), "\n")
	have := map[step]bool{}
	for i, line := range lines {
		if !regexp.MustCompile(`^\| [A-Z]\d+ \|`).MatchString(line) {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != orderingColumns {
			t.Errorf("%s:%d: %d columns, want %d", orderingFile, i+1, len(cells), orderingColumns)
			continue
		}
		for j := range cells {
			if cells[j] = strings.TrimSpace(cells[j]); cells[j] == "" {
				t.Errorf("%s:%d: column %d is empty", orderingFile, i+1, j+1)
			}
		}
		pkg, _, _ := strings.Cut(cells[2], "/")
		s := step{pkg, cells[0], cells[1]}
		places, ok := want[s]
		switch {
		case !ok:
			t.Errorf("%s:%d: no %q in %s", orderingFile, i+1, s.tag+" "+s.order, pkg)
		case have[s]:
			t.Errorf("%s:%d: a second row for %s %s", orderingFile, i+1, s.tag, s.order)
		case cells[2] != where(pkg, places):
			if *update {
				cells[2] = where(pkg, places)
				lines[i] = "| " + strings.Join(cells, " | ") + " |"
				break
			}
			t.Errorf("%s:%d: %s %s is at\n\t%s\nthe table says\n\t%s\nrun go test ./internal/rules -update", orderingFile, i+1, s.tag, s.order, where(pkg, places), cells[2])
		}
		have[s] = true
	}
	for s, places := range want {
		if !have[s] {
			t.Errorf("%s has no row for\n| %s | %s | %s | field | pairs with | what breaks | shown by |", orderingFile, s.tag, s.order, where(s.pkg, places))
		}
	}
	if *update {
		if err := os.WriteFile(filepath.Join(root, orderingFile), []byte(strings.Join(lines, "\n")), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFormatAndOrderingAgree: where FORMAT.md gives a step an order, the table has it.
func TestFormatAndOrderingAgree(t *testing.T) {
	rows := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z]\d+) \| (\w+)`).FindAllStringSubmatch(string(read(t, orderingFile)), -1) {
		rows[m[1]] = append(rows[m[1]], m[2])
	}
	for _, m := range regexp.MustCompile(`\b([A-Z]\d+) +(rlx|acq|rel|acqrel|sc)\b`).FindAllStringSubmatch(string(read(t, "docs/FORMAT.md")), -1) {
		if have := rows[m[1]]; have != nil && !slices.Contains(have, m[2]) {
			t.Errorf("docs/FORMAT.md says %s %s, the table of %s has it as %s", m[1], m[2], orderingFile, strings.Join(have, ", "))
		}
	}
}

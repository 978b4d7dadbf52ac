// Package rules holds the rules of this project as tests: every atomic names its order, imports go downwards, files stay short, the README's
// program is the one that compiles. A rule that nobody runs is not a rule.
package rules

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// update rewrites the column "where" of docs/ORDERING.md from the code: go test ./internal/rules -update
var update = flag.Bool("update", false, "rewrite what the documents repeat from the code")

const (
	module = "github.com/cd1900cf/millrace"
	root   = "../.."
)

// core are the packages that touch shared memory.
var core = []string{"ring", "seg", "futex"}

// files returns the paths, relative to the root, of all files of the project for which keep is true. Ignored directories, those of the version
// control, and nested modules are left out.
func files(t *testing.T, keep func(path string) bool) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch {
			case rel == ".":
				return nil
			case d.Name() == ".git" || rel == "bin" || rel == "dist":
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return fs.SkipDir
			}
			return nil
		}
		if rel = filepath.ToSlash(rel); d.Type().IsRegular() && keep(rel) {
			paths = append(paths, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func isGo(path string) bool   { return strings.HasSuffix(path, ".go") }
func isTest(path string) bool { return strings.HasSuffix(path, "_test.go") }

// read returns a file of the project.
func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parse returns the syntax of a Go file of the project.
func parse(t *testing.T, fset *token.FileSet, path string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(fset, path, read(t, path), parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// maxLines says how long a file may be. The algorithms are shorter: each must fit into a head.
func maxLines(path string) int {
	switch path {
	case "ring/mpmc.go", "ring/spsc.go":
		return 400
	}
	return 500
}

// long are files that may be longer, and why.
var long = map[string]string{
	"seg/seg_linux_test.go": "one test for each error that a segment can give",
}

func TestFilesAreShort(t *testing.T) {
	for _, path := range files(t, isGo) {
		b := read(t, path)
		if long[path] != "" || bytes.HasPrefix(b, []byte("// Code generated ")) {
			continue
		}
		if n := bytes.Count(b, []byte("\n")); n > maxLines(path) {
			t.Errorf("%s has %d lines, at most %d; give each idea a file of its own", path, n, maxLines(path))
		}
	}
}

// text are the kinds of files that people read.
var text = []string{".go", ".s", ".h", ".c", ".md", ".py", ".rs", ".svg", ".sh", ".toml", ".yml", ".mod"}

// TestNothingIsLeftForLater: what is not done is an issue, not a word in a file; and no path of somebody's machine is in the tree.
func TestNothingIsLeftForLater(t *testing.T) {
	forbidden := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b|/wo` + `rk/|/ro` + `ot/|/ho` + `me/`)
	for _, path := range files(t, func(path string) bool {
		return slices.Contains(text, filepath.Ext(path)) || path == "Makefile" || path == ".ci/run"
	}) {
		for i, line := range strings.Split(string(read(t, path)), "\n") {
			if word := forbidden.FindString(line); word != "" {
				t.Errorf("%s:%d: %s", path, i+1, word)
			}
		}
	}
}

// TestRingStartsNoGoroutines: the algorithms run in the goroutine that calls them.
func TestRingStartsNoGoroutines(t *testing.T) {
	fset := token.NewFileSet()
	for _, path := range files(t, func(path string) bool { return strings.HasPrefix(path, "ring/") && isGo(path) && !isTest(path) }) {
		ast.Inspect(parse(t, fset, path), func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s: ring starts a goroutine; helpers live in futex", fset.Position(g.Pos()))
			}
			return true
		})
	}
}

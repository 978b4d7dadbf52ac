package rules

import (
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Imports go downwards only: futex and the layout know nobody, seg knows files, ring knows both, programs and tests know the public three.

// layer says what the packages whose path begins with dir may import of this module. "internal/" stands for everything below internal that is
// itself at the bottom.
type layer struct {
	dir string
	own []string
}

// bottom are the internal packages that any layer may use: they import nothing of this module.
var bottom = []string{"internal/atomicx", "internal/invariants", "internal/layout", "internal/testpoint"}

// layers in the order in which they are tried; the first whose dir is a prefix applies.
var layers = []layer{
	{"futex/", []string{"internal/atomicx", "internal/invariants", "internal/testpoint"}},
	{"seg/", append([]string{"futex"}, bottom...)},
	{"ring/", append([]string{"futex", "seg"}, bottom...)},
	{"internal/tools/layoutgen/", nil},
	{"internal/", nil},
	{"cmd/", []string{"ring", "seg", "futex", "internal/layout", "internal/measure", "internal/testpoint"}},
	{"fuzz/", append([]string{"ring", "seg", "futex"}, bottom...)},
	{"tests/", append([]string{"ring", "seg", "futex"}, bottom...)},
}

// thirdParty are the packages of others that a program which uses millrace gets with it.
var thirdParty = map[string][]string{
	"futex/": {"golang.org/x/sys/unix"},
	"seg/":   {"golang.org/x/sys/unix"},
	"":       {"github.com/cespare/xxhash/v2"},
}

func TestImportsGoDownwards(t *testing.T) {
	fset := token.NewFileSet()
	for _, path := range files(t, isGo) {
		i := slices.IndexFunc(layers, func(l layer) bool { return strings.HasPrefix(path, l.dir) })
		if i < 0 {
			t.Errorf("%s: a directory without a rule; add it to layers", path)
			continue
		}
		l := layers[i]
		top, _, _ := strings.Cut(strings.TrimPrefix(path, l.dir), "/")
		for _, spec := range parse(t, fset, path).Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(name, "/")
			switch own, ours := strings.CutPrefix(name, module+"/"); {
			case ours:
				// Tests outside of a package import it, and commands may have packages of their own.
				self := own+"/" == l.dir || strings.HasPrefix(own+"/", l.dir+top+"/") || l.dir == "tests/" && strings.HasPrefix(own, "tests/")
				if !self && !slices.Contains(l.own, own) {
					t.Errorf("%s: %s imports %s", fset.Position(spec.Pos()), l.dir, own)
				}
			case strings.Contains(first, ".") && !isTest(path) && l.dir != "tests/" && l.dir != "fuzz/":
				if !slices.Contains(thirdParty[l.dir], name) && !slices.Contains(thirdParty[""], name) {
					t.Errorf("%s: imports %s; golang.org/x/sys/unix belongs into futex and seg, xxhash anywhere, nothing else into what users build",
						fset.Position(spec.Pos()), name)
				}
			}
		}
	}
}

// TestDependenciesAreFew: the module itself needs two; whatever needs more has a go.mod of its own.
func TestDependenciesAreFew(t *testing.T) {
	allowed := []string{
		"golang.org/x/sys", "github.com/cespare/xxhash/v2", // the packages
		"github.com/stretchr/testify", "go.uber.org/goleak", "github.com/anishathalye/porcupine", "pgregory.net/rapid", // their tests
	}
	for _, line := range strings.Split(string(read(t, "go.mod")), "\n") {
		f := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(f) < 2 || !strings.Contains(f[0], ".") || strings.Contains(line, "// indirect") || strings.HasPrefix(f[0], "github.com/cd1900cf/") {
			continue
		}
		if !slices.Contains(allowed, f[0]) {
			t.Errorf("go.mod requires %s; give what needs it a nested module", f[0])
		}
	}
}

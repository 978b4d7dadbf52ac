package rules

import (
	"go/ast"
	"go/token"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What the compiler makes of a release store, atomicx.StoreRelease: a plain store, which on amd64 is one. The language promises less than that, so
// the compiled code is looked at.

// instruction is a line of go tool objdump.
type instruction struct {
	symbol, file string
	line         int
	address      string
	text         string
}

// asmLine is "file:line  address  code  text".
var asmLine = regexp.MustCompile(`^\s*(\S+):(\d+)\s+(0x[0-9a-f]+)\s+[0-9a-f]+\s+([^\t]*)`)

// jump is a jump to an address; a plain one never goes on behind itself.
var jump = regexp.MustCompile(`^(J[A-Z]+) (0x[0-9a-f]+)$`)

// reachable returns which instructions of the symbol can come after instruction n.
func reachable(code []instruction, n int) map[int]bool {
	symbol, at := code[n].symbol, map[string]int{}
	for i, c := range code {
		if c.symbol == symbol {
			at[c.address] = i
		}
	}
	seen := map[int]bool{}
	for todo := []int{n}; len(todo) > 0; {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		j := jump.FindStringSubmatch(code[i].text)
		next := []int{i + 1}
		switch {
		case j != nil && j[1] == "JMP":
			next = []int{at[j[2]]}
		case j != nil:
			next = append(next, at[j[2]])
		case strings.HasPrefix(code[i].text, "RET"):
			next = nil
		}
		for _, k := range next {
			if k < len(code) && code[k].symbol == symbol && !seen[k] {
				seen[k] = true
				todo = append(todo, k)
			}
		}
	}
	return seen
}

var toMemory = regexp.MustCompile(`^MOVQ [A-Z0-9]+, [^ ]*\(`)

// disassemble returns the instructions of package ring.
func disassemble(t *testing.T) (list []instruction) {
	cmd := exec.Command("go", "list", "-export", "-f", "{{.Export}}", "./ring")
	cmd.Dir = root
	export, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "tool", "objdump", strings.TrimSpace(string(export))).Output()
	if err != nil {
		t.Fatal(err)
	}
	symbol := ""
	for _, l := range strings.Split(string(out), "\n") {
		if name, ok := strings.CutPrefix(l, "TEXT "); ok {
			symbol, _, _ = strings.Cut(name, "(SB)")
			continue
		}
		m := asmLine.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		file, text := m[1], strings.TrimSpace(m[4])
		if i := strings.Index(l, "R_CALL:"); i >= 0 {
			text += " " + l[i:]
		}
		list = append(list, instruction{symbol, file, n, m[3], text})
	}
	return list
}

// lineOf finds a line of a file by what it begins with.
func lineOf(t *testing.T, path, begin string) int {
	for i, l := range strings.Split(string(read(t, path)), "\n") {
		if strings.HasPrefix(l, begin) {
			return i + 1
		}
	}
	t.Fatalf("%s has no line that begins with %q", path, begin)
	return 0
}

// TestReleaseStoresAreStores: in the compiled package each release store of the source is a store to memory, and in the fast path it comes after what
// it publishes, and after the length.
func TestReleaseStoresAreStores(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("elsewhere a release store is an atomic one")
	}
	const store = "internal/atomicx/store_amd64.go"
	release, relaxed := lineOf(t, store, "func StoreRelease"), lineOf(t, store, "func StoreRelaxed")
	code := disassemble(t)
	at := func(i instruction, line int) bool {
		return i.file == "store_amd64.go" && i.line == line && toMemory.MatchString(i.text)
	}
	stores := 0
	for _, i := range code {
		if at(i, release) {
			stores++
		}
	}
	calls, fset := 0, token.NewFileSet()
	for _, path := range files(t, func(path string) bool { return strings.HasPrefix(path, "ring/") && isGo(path) && !isTest(path) }) {
		ast.Inspect(parse(t, fset, path), func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				switch f := call.Fun.(type) {
				case *ast.SelectorExpr:
					if f.Sel.Name == "StoreRelease" {
						calls++
					}
				case *ast.Ident:
					if f.Name == "publish" {
						calls++
					}
				}
			}
			return true
		})
	}
	if calls < 30 || stores < calls-1 { // publish calls StoreRelease itself
		t.Errorf("%d release stores in the source, %d in the compiled package", calls, stores)
	}

	for name, call := range map[string]string{"(*Producer).Send": "ring.(*Producer).put", "(*Consumer).Receive": "ring.(*Consumer).get"} {
		var copies, lengths, published []int
		calls := 0
		for n, i := range code {
			if !strings.HasSuffix(i.symbol, "ring."+name) {
				continue
			}
			switch {
			case strings.Contains(i.text, call):
				copies, calls = append(copies, n), calls+1
			case i.file == "copy.go" && (strings.HasPrefix(i.text, "MOVUPS X") || toMemory.MatchString(i.text)):
				copies = append(copies, n)
			case at(i, relaxed) && strings.Contains(i.text, ", 0x8("): // the others are counters
				lengths = append(lengths, n)
			case at(i, release), name == "(*Consumer).Receive" && strings.Contains(i.text, "CMPXCHGQ"):
				published = append(published, n)
			}
		}
		sends := name == "(*Producer).Send"
		if calls != 2 || len(copies) < 24 || sends && len(lengths) != 3 || len(published) < 4 { // a body for each kind of ring, and one for short messages
			t.Fatalf("%s: copies at %d, the length at %d, release stores at %d: the rule looks in the wrong place", name, copies, lengths, published)
		}
		before := copies
		if sends {
			before = append(before, lengths...)
		}
		for _, p := range published {
			after := reachable(code, p)
			for _, n := range before {
				if after[n] {
					t.Errorf("%s: %s (line %d) can come after a store that publishes it", name, code[n].text, code[n].line)
				}
			}
		}
		for _, n := range before {
			if after := reachable(code, n); !slices.ContainsFunc(published, func(p int) bool { return after[p] }) {
				t.Errorf("%s: %s (line %d) does not lead to a store that publishes it", name, code[n].text, code[n].line)
			}
		}
	}
}

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const moduleRoot = "../../.."

func TestGeneratedFilesAreCurrent(t *testing.T) {
	if err := run(moduleRoot, true); err != nil {
		t.Fatal(err)
	}
}

const head = "| field | offset | size | type | writer | initial | meaning | since |\n|---|---|---|---|---|---|---|---|\n"

const identity = "| magic | 0 | 8 | bytes | c | `MILLRACE` | m | 1 |\n| byte_order | 8 | 4 | u32 | c | 0x0A0B0C0D | m | 1 |\n| version | 12 | 4 | u32 | c | 1 | m | 1 |\n"

const values = "<!-- values: -->\n| name | value | meaning |\n|---|---|---|\n| one | 1 | |\n<!-- end -->\n"

func document(rows string) string {
	return "<!-- table: Header size=64 -->\n" + head + identity + rows + "<!-- end -->\n" + values
}

func TestParseRefusesUnsoundTables(t *testing.T) {
	if _, err := Parse(document("| good | 16 | 8 | u64 | c | 0 | m | 1 |\n")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"overlap", document("| bad | 8 | 8 | u64 | c | 0 | m | 1 |\n"), "inside"},
		{"misaligned", document("| bad | 20 | 8 | u64 | c | 0 | m | 1 |\n"), "multiple of 8"},
		{"beyond", document("| bad | 64 | 4 | u32 | c | 0 | m | 1 |\n"), "beyond"},
		{"size of type", document("| bad | 16 | 4 | u64 | c | 0 | m | 1 |\n"), "4 bytes for type u64"},
		{"type", document("| bad | 16 | 2 | u16 | c | 0 | m | 1 |\n"), "type"},
		{"name", document("| Bad | 16 | 4 | u32 | c | 0 | m | 1 |\n"), "identifier"},
		{"twice", document("| magic | 16 | 4 | u32 | c | 0 | m | 1 |\n"), "both be called"},
		{"columns", document("| bad | 16 | 4 | u32 | c | 0 | 1 |\n"), "columns"},
		{"number", document("| bad | x | 4 | u32 | c | 0 | m | 1 |\n"), "not a number"},
		{"no end", "<!-- table: Header size=64 -->\n" + head + identity, "no end mark"},
		{"nested", "<!-- table: Header size=64 -->\n" + values, "before the one above"},
		{"prose inside", document("text\n"), "text inside"},
		{"mark", "<!-- table: header -->\n", "not understood"},
		{"empty", "", "0 tables"},
	} {
		if _, err := Parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestFingerprintCoversTheLayoutOnly(t *testing.T) {
	print := func(rows string) uint64 {
		f, err := Parse(document(rows))
		if err != nil {
			t.Fatal(err)
		}
		return f.Fingerprint()
	}
	base := print("| a | 16 | 8 | u64 | c | 0 | m | 1 |\n")
	if print("| a | 16 | 8 | u64 | other | 7 | better words | 1 |\n") != base {
		t.Error("another meaning changes the fingerprint")
	}
	for _, rows := range []string{"| b | 16 | 8 | u64 | c | 0 | m | 1 |\n", "| a | 24 | 8 | u64 | c | 0 | m | 1 |\n", "| a | 16 | 8 | bytes | c | 0 | m | 1 |\n", ""} {
		if print(rows) == base {
			t.Errorf("the same fingerprint with %q", rows)
		}
	}
}

func TestCheckSeesAStaleFile(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"docs", "internal/layout", "include"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	doc := filepath.Join(root, formatFile)
	if err := os.WriteFile(doc, []byte(document("")), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := run(root, true); err == nil {
		t.Fatal("missing files were not reported")
	}
	if err := run(root, false); err != nil {
		t.Fatal(err)
	}
	if err := run(root, true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(doc, []byte(document("| a | 16 | 8 | u64 | c | 0 | m | 1 |\n")), 0o666); err != nil {
		t.Fatal(err)
	}
	err := run(root, true)
	for _, file := range []string{"zz_generated.go", "millrace_layout.h", "layout.rs", "layout.json"} {
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("stale %s not reported: %v", file, err)
		}
	}
}

func TestHeaderCompiles(t *testing.T) {
	for _, c := range [][]string{{"cc", "-std=c11", "-xc"}, {"cc", "-std=c17", "-xc"}, {"c++", "-std=c++17", "-xc++"}} {
		t.Run(c[1], func(t *testing.T) {
			cc, err := exec.LookPath(c[0])
			if err != nil {
				t.Skipf("no %s", c[0])
			}
			cmd := exec.Command(cc, append(c[1:], "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "-")...)
			cmd.Dir = filepath.Join(moduleRoot, "include")
			cmd.Stdin = strings.NewReader("#include \"./millrace_layout.h\"\nint main(void) { return MILLRACE_HEADER_SIZE != 4096 || MILLRACE_LENGTH_MASK != 0xffffffffff; }\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

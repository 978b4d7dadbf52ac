// Layoutgen reads the tables of docs/FORMAT.md and writes what must agree with them: the Go constants
// (internal/layout/zz_generated.go), the layout part of the C header (include/millrace_layout.h), that of the Rust crate
// (bindings/rust/src/layout.rs) and internal/layout/layout.json for everybody else.
//
// Run it from the root of the module:
//
//	go run ./internal/tools/layoutgen          # write the files
//	go run ./internal/tools/layoutgen -check   # compare only, exit 1 when one of them is stale
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

const formatFile = "docs/FORMAT.md"

func main() {
	check := flag.Bool("check", false, "compare the generated files with the tables, write nothing")
	root := flag.String("root", ".", "root directory of the module")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run generates all files below root, or compares them when check is set.
func run(root string, check bool) error {
	text, err := os.ReadFile(filepath.Join(root, formatFile))
	if err != nil {
		return fmt.Errorf("layoutgen: %w (run from the root of the module)", err)
	}
	f, err := Parse(string(text))
	if err != nil {
		return fmt.Errorf("layoutgen: %s: %w", formatFile, err)
	}
	outputs := []struct {
		path   string
		render func(*Format) ([]byte, error)
	}{
		{"internal/layout/zz_generated.go", renderGo},
		{"include/millrace_layout.h", renderC},
		{"bindings/rust/src/layout.rs", renderRust},
		{"internal/layout/layout.json", renderJSON},
	}
	var stale []error
	for _, o := range outputs {
		want, err := o.render(f)
		if err != nil {
			return fmt.Errorf("layoutgen: %s: %w", o.path, err)
		}
		path := filepath.Join(root, o.path)
		have, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("layoutgen: %w", err)
		}
		if err == nil && bytes.Equal(have, want) {
			continue
		}
		if check {
			stale = append(stale, fmt.Errorf("layoutgen: %s does not match %s; run: go generate ./internal/layout", o.path, formatFile))
			continue
		}
		if err := writeFile(path, want); err != nil {
			return fmt.Errorf("layoutgen: %w", err)
		}
	}
	return errors.Join(stale...)
}

// writeFile replaces path in one step, so that a build running next to it sees the old text or the new one.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, data, 0o666); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

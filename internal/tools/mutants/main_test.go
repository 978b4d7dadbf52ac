package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every table of mutants still fits the code: what it replaces is there once, and something else takes its place.
func TestTablesFitTheCode(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	for _, table := range []string{"fuzz/mutants.txt", "tests/soak/mutants.txt"} {
		text, err := os.ReadFile(filepath.Join(root, table))
		require.NoError(t, err)
		list, err := parse(string(text))
		require.NoError(t, err)
		require.NotEmpty(t, list)
		names := map[string]bool{}
		for _, m := range list {
			source, err := os.ReadFile(filepath.Join(root, m.file))
			require.NoError(t, err)
			changed, err := m.apply(string(source))
			require.NoError(t, err, "%s: %s", table, m.name)
			require.NotEqual(t, string(source), changed, m.name)
			require.False(t, names[m.name], "%s: %s twice", table, m.name)
			names[m.name] = true
		}
	}
}

func TestApply(t *testing.T) {
	m := mutant{file: "f", old: []string{"b", " c"}, new: []string{"x"}}
	for _, x := range []struct{ source, want, fails string }{
		{"a\n\tb\n\tc\nd", "a\nx\nd", ""},
		{"a\nb\nd", "", "not in f"},
		{"b\nc\nb\nc", "", "twice"},
	} {
		got, err := m.apply(x.source)
		if x.fails == "" {
			require.NoError(t, err)
			require.Equal(t, x.want, got)
		} else {
			require.ErrorContains(t, err, x.fails)
		}
	}
	_, err := parse("mutant name file\n*what is this\n")
	require.ErrorContains(t, err, "line 2")
	list, err := parse(strings.Join([]string{"# a comment", "mutant n f", "-a", "-b", "+c", ""}, "\n"))
	require.NoError(t, err)
	require.Equal(t, []mutant{{"n", "f", []string{"a", "b"}, []string{"c"}}}, list)
}

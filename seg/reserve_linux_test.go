//go:build amd64 || arm64

package seg

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryCgroupIsAsked(t *testing.T) {
	root := t.TempDir()
	for _, v := range []cgroup{
		{root, "memory.max", "memory.current", ""},
		{root, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"},
	} {
		write := func(group, file, text string) {
			check(t, os.MkdirAll(filepath.Join(root, group), 0o755))
			check(t, os.WriteFile(filepath.Join(root, group, file), []byte(text), 0o644))
		}
		write("a", v.limit, "1000000\n")
		write("a", v.usage, "900000\n")
		write("a", "memory.stat", "anon 5\n"+v.prefix+"inactive_file 30000\n"+v.prefix+"active_file 20000\n")
		if free, ok := v.left("/a"); !ok || free != 150000 {
			t.Errorf("%d bytes left, %v; want the limit less usage, plus the page cache", free, ok)
		}
		write("full", v.limit, "1000000\n")
		write("full", v.usage, "1000001\n")
		if free, ok := v.left("/full"); !ok || free != 0 {
			t.Errorf("%d bytes left, %v", free, ok)
		}
		for _, unlimited := range []string{"max\n", "9223372036854771712\n"} {
			write("u", v.limit, unlimited)
			write("u", v.usage, "5\n")
			if free, ok := v.left("/u"); ok {
				t.Errorf("without a limit: %d", free)
			}
		}
		if _, ok := v.left("/absent"); ok {
			t.Error("an absent group has a limit")
		}
	}
	for _, r := range memoryLeft() {
		if r.what == "" || r.remedy == "" {
			t.Errorf("%+v", r)
		}
	}
}

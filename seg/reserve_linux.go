//go:build amd64 || arm64

package seg

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
)

// reserveChunk is what one fallocate call asks for. A signal undoes the whole call on tmpfs, so that a long one might
// never end.
const reserveChunk = 64 << 20

// reserve gives the file behind fd its size and all its memory. Without it a full file system shows as SIGBUS when a
// page is touched for the first time, in whatever process.
func (c *creation) reserve(fd int) error {
	total := int64(c.h.SegmentSize)
	if err := c.checkMemory(); err != nil {
		return err
	}
	step := max(reserveChunk, layout.PageSize(c.h.Huge))
	for at := int64(0); at < total; {
		n := min(step, total-at)
		switch err := unix.Fallocate(fd, 0, at, n); err {
		case nil:
			at += n
		case unix.EINTR:
		case unix.EOPNOTSUPP, unix.ENOSYS:
			if err := writeZeros(fd, at, n); err != nil {
				return c.explainSpace("write", err)
			}
			at += n
		default:
			return c.explainSpace("fallocate", err)
		}
	}
	return nil
}

// populateAdvice is another one, which no kernel knows, in tests of what is done without it.
var populateAdvice = unix.MADV_POPULATE_WRITE

// populate makes all pages of the fresh mapping exist and be clear. A file's memory is reserved by then, but the kernel would clear each page when it is
// first touched, which takes as long as some forty messages. Huge pages were reserved, and take whoever touches them first as long as they are large.
func (c *creation) populate() error {
	if c.hugetlb() {
		return nil
	}
	mem := c.m.bytes(c.h.SegmentSize)
	err := advise(mem, populateAdvice)
	if errors.Is(err, unix.EINVAL) { // before Linux 5.14
		return c.m.touch(func() error {
			for i := 0; i < len(mem); i += layout.Page {
				mem[i] = 0 // a write that changes nothing, and that a compiler cannot know to
			}
			return nil
		})
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	if errno == unix.EFAULT { // what a failed allocation is called here
		errno = unix.ENOMEM
	}
	return c.explainSpace("madvise", errno)
}

// writeZeros reserves on file systems without fallocate.
func writeZeros(fd int, at, n int64) error {
	zeros := make([]byte, 1<<20)
	for end := at + n; at < end; {
		k, err := unix.Pwrite(fd, zeros[:min(int64(len(zeros)), end-at)], at)
		if err != nil && err != unix.EINTR {
			return err
		}
		at += int64(max(k, 0))
	}
	return nil
}

// explainSpace adds to an error what is free where the segment was to go, and the remedy.
func (c *creation) explainSpace(op string, err error) error {
	if c.hugetlb() {
		return c.explainHuge(op, err)
	}
	what := fmt.Errorf("reserve %d bytes (%s): %w", c.h.SegmentSize, size(c.h.SegmentSize), pathError(op, c.path, err))
	switch err {
	case unix.ENOSPC, unix.EDQUOT:
		var fs unix.Statfs_t
		if c.o.Backing == Memfd || unix.Statfs(c.dir, &fs) != nil {
			return fmt.Errorf("%w; choose smaller Slots or SlotSize", what)
		}
		return fmt.Errorf("%w; %s has %d bytes free of %d; enlarge it (mount -o remount,size=..., docker run --shm-size=...), remove what is not needed, or choose smaller Slots or SlotSize",
			what, c.dir, fs.Bavail*uint64(fs.Bsize), fs.Blocks*uint64(fs.Bsize))
	case unix.ENOMEM:
		return fmt.Errorf("%w; the machine or its memory cgroup has no memory left, see memory.max; choose smaller Slots or SlotSize", what)
	}
	return what
}

// checkMemory refuses a segment that is larger than what the machine and the memory cgroups of this process have left.
// The kernel would answer with its OOM killer instead of an error. What it finds may have changed a moment later.
func (c *creation) checkMemory() error {
	if c.hugetlb() {
		return nil
	}
	need := c.h.SegmentSize
	for _, r := range memoryLeft() {
		if need > r.free {
			return fmt.Errorf("reserve %d bytes (%s): %w; %s has %d bytes left; %s, or choose smaller Slots or SlotSize",
				need, size(need), pathError("reserve", c.path, unix.ENOMEM), r.what, r.free, r.remedy)
		}
	}
	return nil
}

// room is memory that something has left.
type room struct {
	what   string
	free   uint64
	remedy string
}

// memoryLeft asks the machine and every memory cgroup above this process. What it cannot find out it leaves out.
func memoryLeft() []room {
	var rooms []room
	mem := readTable("/proc/meminfo")
	swap := mem["SwapFree"] << 10
	if available, ok := mem["MemAvailable"]; ok {
		rooms = append(rooms, room{"the machine", available<<10 + swap, "free some memory"})
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return rooms
	}
	for _, line := range strings.Split(string(groups), "\n") {
		f := strings.SplitN(line, ":", 3)
		if len(f) != 3 {
			continue
		}
		var g cgroup
		switch {
		case f[0] == "0":
			g = cgroup{"/sys/fs/cgroup", "memory.max", "memory.current", ""}
		case f[1] == "memory":
			g = cgroup{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"}
		default:
			continue
		}
		// Within a container the path may be that of the host: then the root of the mount is the container's own group.
		for p := path.Clean("/" + f[2]); ; p = path.Dir(p) {
			if free, ok := g.left(p); ok {
				rooms = append(rooms, room{"the memory cgroup " + p, free + swap, "raise its " + g.limit})
			}
			if p == "/" {
				break
			}
		}
	}
	return rooms
}

// cgroup says how a version of memory cgroups calls its files.
type cgroup struct{ root, limit, usage, prefix string }

// left returns the limit less what is used and cannot be dropped. ok is false when there is no limit.
func (g cgroup) left(group string) (free uint64, ok bool) {
	dir := path.Join(g.root, group)
	limit, err := readNumber(path.Join(dir, g.limit)) // "max" is no number
	if err != nil || limit >= 1<<62 {
		return 0, false
	}
	usage, err := readNumber(path.Join(dir, g.usage))
	if err != nil {
		return 0, false
	}
	stat := readTable(path.Join(dir, "memory.stat"))
	usage -= min(usage, stat[g.prefix+"inactive_file"]+stat[g.prefix+"active_file"])
	return limit - min(limit, usage), true
}

// readTable reads lines of a name and a number, as /proc/meminfo and memory.stat have them.
func readTable(path string) map[string]uint64 {
	table := map[string]uint64{}
	f, err := os.Open(path)
	if err != nil {
		return table
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w := strings.Fields(lines.Text())
		if len(w) < 2 {
			continue
		}
		if n, err := strconv.ParseUint(w[1], 10, 64); err == nil {
			table[strings.TrimSuffix(w[0], ":")] = n
		}
	}
	return table
}

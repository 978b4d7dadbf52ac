//go:build testpoint && linux

package crash

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
	"github.com/cd1900cf/millrace/tests/crash/message"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// segmentSteps are the labels of package seg that an operation reaches, for each backing that has a name.
var segmentSteps = map[seg.Backing]map[string]string{
	seg.POSIX: {
		"create": "opened reserved filled ready shared linked",
		"open":   "opened locked mapped",
		"remove": "locked checked unlinked",
	},
	seg.SysV: {
		"create": "private key shmget filled ready anchor shared linked",
		"open":   "opened locked mapped",
		"remove": "locked checked renamed unlinked shm",
		"sweep":  "locked shm",
	},
}

func segmentLabels() (labels []string) {
	for _, ops := range segmentSteps {
		for op, steps := range ops {
			for _, s := range strings.Fields(steps) {
				labels = append(labels, "seg."+op+"."+s)
			}
		}
	}
	return labels
}

func segmentOptions(dir string, b seg.Backing) ring.Options {
	return ring.Options{Slots: 4, SlotSize: 32, Participants: 4, Backing: b, Dir: dir}
}

// segment is the task of a child: operation, directory, backing.
func segment(c *proc.Child) error {
	var b seg.Backing
	if _, err := fmt.Sscan(c.Args[2], &b); err != nil {
		return err
	}
	dir := c.Args[1]
	var r *ring.Ring
	var err error
	switch c.Args[0] {
	case "create":
		r, err = ring.Create("q", segmentOptions(dir, b))
	case "open":
		r, err = ring.Open("q", ring.WithDir(dir))
	case "remove":
		return ring.Remove("q", ring.WithDir(dir), ring.IfDrained())
	case "sweep":
		_, err = seg.Sweep(dir)
		return err
	}
	if err != nil {
		return err
	}
	return r.Close()
}

// A process is killed at every step in which it creates, opens, removes or sweeps a ring. Properties: the name works afterwards, for whoever opens or creates it; a ring
// that is found there is whole and holds what was committed to it; the sweep leaves nothing behind, System V segments included; the ring can be removed.
func TestKilledWhileCreatingOpeningRemoving(t *testing.T) {
	for b, ops := range segmentSteps {
		for op, steps := range ops {
			for _, step := range strings.Fields(steps) {
				t.Run(fmt.Sprintf("%s/%s.%s", b, op, step), func(t *testing.T) {
					t.Parallel()
					dir := proc.Dir(t)
					killed := func(op, step string) int {
						p := proc.Start(t, []string{"segment", op, dir, fmt.Sprint(uint32(b))}, proc.Env(fmt.Sprintf("MILLRACE_TESTPOINT=seg.%s.%s:1:kill", op, step)))
						sig, code := p.Result()
						require.Equal(t, syscall.SIGKILL, sig, "exit %d: %s", code, p.Errors())
						return p.Cmd.Process.Pid
					}
					var pids []int
					switch op {
					case "open":
						leaveMessage(t, dir, b)
					case "remove":
						r, err := ring.Create("q", segmentOptions(dir, b))
						require.NoError(t, err)
						require.NoError(t, r.Close())
					case "sweep":
						pids = append(pids, killed("create", "shmget"))
					}
					pids = append(pids, killed(op, step))

					r, created, err := ring.OpenOrCreate("q", segmentOptions(dir, b))
					require.NoError(t, err)
					require.False(t, created && op == "open")
					q, err := r.NewConsumer()
					require.NoError(t, err)
					buf := make([]byte, r.MaxMessage())
					if op == "open" {
						n, err := q.TryReceive(buf)
						require.NoError(t, err)
						require.Equal(t, "committed", string(buf[:n]))
					}
					p, err := r.NewProducer()
					require.NoError(t, err)
					for i := range 20 {
						msg := message.Encode(uint64(i), 16+i)
						require.NoError(t, p.TrySend(msg))
						n, err := q.TryReceive(buf)
						require.NoError(t, err)
						require.Equal(t, msg, buf[:n])
					}
					require.NoError(t, r.Close())

					_, err = seg.Sweep(dir)
					require.NoError(t, err)
					require.Equal(t, []string{"q"}, names(t, dir))
					require.NoError(t, ring.Remove("q", ring.WithDir(dir)))
					require.Empty(t, names(t, dir))
					for _, pid := range pids {
						require.Empty(t, shmOf(t, pid), "System V segments of a dead creator are left")
					}
				})
			}
		}
	}
}

func leaveMessage(t *testing.T, dir string, b seg.Backing) {
	r, err := ring.Create("q", segmentOptions(dir, b))
	require.NoError(t, err)
	p, err := r.NewProducer()
	require.NoError(t, err)
	require.NoError(t, p.TrySend([]byte("committed")))
	require.NoError(t, r.Close())
}

// names lists a directory.
func names(t *testing.T, dir string) (list []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	slices.Sort(list)
	return list
}

// shmOf lists the System V segments that a process created.
func shmOf(t *testing.T, pid int) (ids []string) {
	b, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Skip("no System V IPC: ", err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	creator := slices.Index(strings.Fields(lines[0]), "cpid")
	for _, line := range lines[1:] {
		if f := strings.Fields(line); f[creator] == fmt.Sprint(pid) {
			ids = append(ids, f[1])
		}
	}
	return ids
}

//go:build linux && amd64

package step

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
	"github.com/cd1900cf/millrace/tests/crash/message"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// Operations on names: what they change are files, by system calls, and a segment that nobody else sees yet.

// fileOperation is one of them.
type fileOperation struct {
	op      string
	backing seg.Backing
	exists  bool // there is a ring, with a message in it
}

var fileOperations = []fileOperation{
	{"create", seg.POSIX, false},
	{"create sysv", seg.SysV, false},
	{"open or create", seg.POSIX, false},
	{"open or create", seg.POSIX, true},
	{"remove", seg.POSIX, true},
	{"remove", seg.SysV, true},
	{"force", seg.POSIX, true},
	{"force", seg.SysV, true},
}

func (o fileOperation) options(dir string) ring.Options {
	return ring.Options{Slots: 4, SlotSize: 32, Participants: 4, Backing: o.backing, Dir: dir}
}

// fills are the functions that write a new segment: a child is killed before every eighth instruction of theirs.
var fills = regexp.MustCompile(`millrace/(ring\.(initialise|newCore)|internal/layout\.\(\*Header\)\.)`)

// A process is killed before and after each system call with which it creates, opens or removes a ring, while it fills a new one, and before 200
// others at random. Properties: the name works afterwards, for whoever opens or creates it; a ring that is found there is whole, with the
// message that was in it; the sweep leaves nothing behind, System V segments included; the ring can be removed.
func TestKilledWhileCreatingAndRemoving(t *testing.T) {
	p, err := build()
	require.NoError(t, err)
	for _, o := range fileOperations {
		if !o.exists && !thorough { // it takes seconds to step through
			continue
		}
		t.Run(fmt.Sprintf("%s/%s/%t", strings.ReplaceAll(o.op, " ", "_"), o.backing, o.exists), func(t *testing.T) {
			begin := time.Now()
			dir := proc.Dir(t)
			var worlds []*world
			for i := range workers {
				w := &world{dir: filepath.Join(dir, fmt.Sprint(i))}
				require.NoError(t, os.Mkdir(w.dir, 0o700))
				worlds = append(worlds, w)
			}
			var r *run
			err := spread(worlds[:1], 1, func(w *world, _ int) (err error) {
				if err = o.begin(w); err == nil {
					r, err = p.record(w, o.op, everything)
				}
				return errors.Join(err, o.end(w))
			})
			if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
				t.Skipf("no process may be traced here (ptrace): %v", err)
			}
			require.NoError(t, err)
			points := r.filePoints()
			require.NoError(t, spread(worlds, len(points), func(w *world, i int) error {
				if err := o.killAt(r, w, points[i]); err != nil {
					return fmt.Errorf("killed after %d of %d instructions, before %s: %w", points[i], len(r.pcs), r.at(points[i]), err)
				}
				return nil
			}))
			t.Logf("%d instructions, killed at %d, %.1f s", len(r.pcs), len(points), time.Since(begin).Seconds())
		})
	}
}

// filePoints returns before which instructions to kill.
func (r *run) filePoints() (list []int) {
	random := map[int]bool{}
	for range 200 {
		k := rand.IntN(len(r.pcs))
		random[min(k, r.anchors[k]+rand.IntN(500))] = true // far inside a loop it takes too long to get there
	}
	for k := range r.pcs {
		_, _, fn := r.table.PCToLine(r.pcs[k])
		filling := fn != nil && fills.MatchString(fn.Name)
		if call := r.isSyscall(r.pcs[k]) || k > 0 && r.isSyscall(r.pcs[k-1]); call || thorough && (filling && k%8 == 0 || random[k]) {
			list = append(list, k)
		}
	}
	return append(list, len(r.pcs))
}

// begin makes what is there before.
func (o fileOperation) begin(w *world) error {
	if !o.exists {
		return nil
	}
	r, err := ring.Create("q", o.options(w.dir))
	if err != nil {
		return err
	}
	p, err := r.NewProducer()
	if err != nil {
		return err
	}
	return errors.Join(p.TrySend(message.Encode(own, 20)), r.Close())
}

func (o fileOperation) killAt(r *run, w *world, k int) error {
	if err := o.begin(w); err != nil {
		return err
	}
	start := time.Now()
	c, exact, err := r.reach(w, k, null)
	if err != nil {
		return err
	}
	if !exact {
		elsewhere.Add(1)
	}
	if err := c.Kill(); err != nil {
		return err
	}
	kills.Add(1)
	if err := o.use(w); err != nil {
		return err
	}
	if err := o.end(w); err != nil {
		return err
	}
	return noSegmentOf(c.PID, start)
}

// noSegmentOf checks that no System V segment is left that process pid has made since start; before, somebody else had that pid.
func noSegmentOf(pid int, start time.Time) error {
	b, err := os.ReadFile("/proc/sysvipc/shm")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	creator, changed := slices.Index(strings.Fields(lines[0]), "cpid"), slices.Index(strings.Fields(lines[0]), "ctime")
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if seconds, err := strconv.ParseInt(f[changed], 10, 64); err != nil {
			return err
		} else if f[creator] == fmt.Sprint(pid) && seconds >= start.Unix()-1 {
			return fmt.Errorf("a System V segment is left: %s", line)
		}
	}
	return nil
}

// use opens or creates the ring and sends messages through it. A ring that was marked as removed, and still has its name, is removed first.
func (o fileOperation) use(w *world) error {
	err := o.through(w)
	if errors.Is(err, ring.ErrSegmentLost) && o.op == "force" {
		if err = ring.Remove("q", ring.WithDir(w.dir)); err == nil {
			err = o.through(w)
		}
	}
	return err
}

func (o fileOperation) through(w *world) (err error) {
	r, created, err := ring.OpenOrCreate("q", o.options(w.dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if created && o.exists && o.op == "open or create" {
		return errors.New("the ring is gone")
	}
	q, err := r.NewConsumer()
	if err != nil {
		return err
	}
	buf := make([]byte, r.MaxMessage())
	n, err := q.TryReceive(buf)
	switch {
	case o.exists && !created:
		if seq, wrong := message.Decode(buf[:n]); err != nil || wrong != nil || seq != own {
			return fmt.Errorf("the message that was there: %w", errors.Join(err, wrong))
		}
	case err != ring.ErrEmpty:
		return fmt.Errorf("a new ring is not empty: %w", err)
	}
	p, err := r.NewProducer()
	if err != nil {
		return err
	}
	for i := range 3 * 4 {
		msg := message.Encode(uint64(i), 16+i)
		if err := p.TrySend(msg); err != nil {
			return err
		}
		n, err := q.TryReceive(buf)
		if err != nil {
			return err
		}
		if string(msg) != string(buf[:n]) {
			return fmt.Errorf("sent %x, received %x", msg, buf[:n])
		}
	}
	return nil
}

// end sweeps and removes what is left; then nothing is.
func (o fileOperation) end(w *world) error {
	if _, err := seg.Sweep(w.dir); err != nil {
		return err
	}
	if err := ring.Remove("q", ring.WithDir(w.dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	left, err := os.ReadDir(w.dir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%v is left", left)
	}
	return err
}

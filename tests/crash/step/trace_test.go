//go:build linux && amd64

package step

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"testing"

	"github.com/cd1900cf/millrace/tests/internal/ptrace"
)

// program is the child as it was built.
type program struct {
	path             string
	main, start, end uint64 // the functions main, perform, performed
	sleep            uint64 // where a process goes to sleep
	table            *gosym.Table
	text             *elf.Section
	code             []byte
}

// overlayEnv names an overlay (go build -overlay) that the child is built with, so that a changed protocol can be tried.
const overlayEnv = "MILLRACE_OVERLAY"

// build builds the child once.
var build = sync.OnceValues(func() (*program, error) {
	p := &program{path: filepath.Join(childDir, "child")}
	args := []string{"build", "-o", p.path}
	if o := os.Getenv(overlayEnv); o != "" {
		args = append(args, "-overlay", o)
	}
	cmd := exec.Command("go", append(args, "./child")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the child: %w\n%s", err, out)
	}
	f, err := elf.Open(p.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p.text = f.Section(".text")
	pcln, err := f.Section(".gopclntab").Data()
	if err != nil {
		return nil, err
	}
	if p.code, err = p.text.Data(); err != nil {
		return nil, err
	}
	if p.table, err = gosym.NewTable(nil, gosym.NewLineTable(pcln, p.text.Addr)); err != nil {
		return nil, err
	}
	for name, at := range map[string]*uint64{"main.main": &p.main, "main.perform": &p.start, "main.performed": &p.end,
		"github.com/cd1900cf/millrace/futex.(*Waiter).sleep": &p.sleep} {
		fn := p.table.LookupFunc(name)
		if fn == nil {
			return nil, fmt.Errorf("the child has no function %s", name)
		}
		*at = fn.Entry
	}
	return p, nil
})

// childDir is where the child is built; TestMain makes and removes it.
var childDir string

// own says whether pc is in the program, and not in what the kernel maps into it at another place every time.
func (p *program) own(pc uint64) bool { return pc-p.text.Addr < uint64(len(p.code)) }

// isSyscall says whether a system call is at pc.
func (p *program) isSyscall(pc uint64) bool {
	i := pc - p.text.Addr
	return i+2 <= uint64(len(p.code)) && ptrace.IsSyscall(p.code[i:])
}

// where describes an address.
func (p *program) where(pc uint64) string {
	file, line, fn := p.table.PCToLine(pc)
	if fn == nil {
		return fmt.Sprintf("%#x", pc)
	}
	return fmt.Sprintf("%s+%#x (%s:%d)", fn.Name, pc-fn.Entry, filepath.Base(file), line)
}

// run is one recorded run of an operation: the instructions that it executed.
type run struct {
	*program
	op      string
	detail  detail
	pcs     []uint64
	anchors []int  // of each instruction: the nearest one, at or before it, that was executed for the first time
	changes []bool // of each instruction: whether it changed the segment
}

// detail says what a run consists of.
type detail int

const (
	everything detail = iota
	ringOnly          // a call out of package ring counts as one instruction
)

// launch starts the child and lets it run up to the beginning of the operation.
func (p *program) launch(dir, op string, out *os.File) (*ptrace.Tracee, error) {
	env := []string{"GOGC=off", "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1"}
	t, err := ptrace.Start(p.path, []string{p.path, dir, op}, env, null, out, os.Stderr)
	if err != nil {
		return nil, err
	}
	if _, err := t.RunTo(p.main, 1, 0); err != nil {
		return nil, err
	}
	if op != "wait" { // that needs its other threads
		if err := t.Freeze(); err != nil {
			return nil, err
		}
	}
	_, err = t.RunTo(p.start, 1, 0)
	return t, err
}

// record steps through the operation op, from the state that the world begins with.
func (p *program) record(w *world, op string, d detail) (*run, error) {
	w.reset()
	t, err := p.launch(w.dir, op, null)
	if err != nil {
		return nil, err
	}
	r := &run{program: p, op: op, detail: d}
	before := bytes.Clone(w.mem)
	first := map[uint64]bool{}
	for {
		pc, err := t.PC()
		if err != nil {
			return nil, errors.Join(err, t.Kill())
		}
		if pc == p.end {
			return r, t.Kill()
		}
		anchor := len(r.pcs)
		if !p.own(pc) || first[pc] {
			anchor = r.anchors[anchor-1]
		}
		first[pc] = true
		r.pcs, r.anchors = append(r.pcs, pc), append(r.anchors, anchor)
		if err := r.step(t); err != nil {
			return nil, fmt.Errorf("after %s: %w", p.where(pc), err)
		}
		changed := !bytes.Equal(before, w.mem)
		if changed {
			copy(before, w.mem)
		}
		r.changes = append(r.changes, changed)
	}
}

// step executes one instruction of the run.
func (r *run) step(t *ptrace.Tracee) error {
	if err := t.Step(); err != nil || r.detail == everything {
		return err
	}
	to, err := t.PC()
	if err != nil || !r.leaves(to) {
		return err
	}
	back, err := t.Return()
	if err != nil {
		return err
	}
	_, err = t.RunTo(back, 1, r.end)
	return err
}

// within are the functions that are stepped through anyway.
var within = regexp.MustCompile(`^main\.|/millrace/(ring|internal/atomicx)\.`)

// inRing says whether the instruction at pc belongs to package ring.
func (r *run) inRing(pc uint64) bool {
	_, _, fn := r.table.PCToLine(pc)
	return fn != nil && within.MatchString(fn.Name)
}

// leaves says whether a function begins at pc that is none of these.
func (r *run) leaves(pc uint64) bool {
	_, _, fn := r.table.PCToLine(pc)
	return fn != nil && fn.Entry == pc && !within.MatchString(fn.Name)
}

// reach brings a new child to where it has executed k instructions of the run. exact says whether it is at the one that it was at in the recorded run: the
// clock makes some difference.
func (r *run) reach(w *world, k int, out *os.File) (t *ptrace.Tracee, exact bool, err error) {
	w.reset()
	if t, err = r.launch(w.dir, r.op, out); err != nil {
		return t, false, err
	}
	if k == len(r.pcs) {
		exact, err = t.RunTo(r.end, 1, 0)
		return t, exact, err
	}
	from := r.anchors[k]
	if from > 0 {
		if ok, err := t.RunTo(r.pcs[from], 1, r.end); err != nil || !ok {
			return t, false, err
		}
	}
	for range k - from {
		if err := r.step(t); err != nil {
			return t, false, err
		}
	}
	pc, err := t.PC()
	return t, pc == r.pcs[k], err
}

// spread calls f for each of n points, in as many goroutines as there are worlds. A tracee belongs to the thread that started it, so each keeps to its own.
func spread(worlds []*world, n int, f func(w *world, i int) error) error {
	var next sync.Mutex
	var done int
	errs := make([]error, len(worlds))
	var all sync.WaitGroup
	for i, w := range worlds {
		all.Go(func() {
			runtime.LockOSThread() // for good: the thread ends with the goroutine, and with it the pinning
			if errs[i] = ptrace.Pin(i); errs[i] != nil {
				return
			}
			for {
				next.Lock()
				k := done
				done++
				next.Unlock()
				if k >= n {
					return
				}
				if errs[i] = f(w, k); errs[i] != nil {
					next.Lock()
					done = n
					next.Unlock()
					return
				}
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

var null *os.File

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
			panic(err)
		}
		if childDir, err = os.MkdirTemp("", "millrace-step-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(childDir)
		code := m.Run()
		fmt.Printf("crash: %d kills (%d of them not exactly where the recorded run was), %d stops\n", kills.Load(), elsewhere.Load(), stops.Load())
		return code
	}())
}

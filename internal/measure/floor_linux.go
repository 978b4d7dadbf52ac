package measure

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"time"
)

// Floor measures how long one cache line takes from one core to the other and back. The machine gives the two cores of a virtual machine different
// places at different times, and everything between two processes depends on it.
type Floor struct {
	page  *Page
	child *exec.Cmd
	start io.WriteCloser
	core  int
	at    uint64
}

// StartFloor starts the other end: this program, with verb, a directory and a core as arguments, which calls ServeFloor. Measure runs on core `here`.
func StartFloor(dir, verb string, here, there int) (*Floor, error) {
	page, err := OpenPage(dir)
	if err != nil {
		return nil, err
	}
	f := &Floor{page: page, core: here}
	f.child = exec.Command("/proc/self/exe", verb, dir, fmt.Sprint(there))
	f.child.Stderr = os.Stderr
	if f.start, err = f.child.StdinPipe(); err != nil {
		return nil, err
	}
	return f, f.child.Start()
}

const (
	floorTrips   = 20  // in one sample
	floorSamples = 101 // of which the median counts
	quitFloor    = ^uint64(0)
)

// Moment is what the two cores can do at one moment.
type Moment struct {
	Trip  time.Duration // the median of a round trip of a line
	Width float64       // of the narrower core
}

// Measure measures a moment. The other end sleeps before and after it.
func (f *Floor) Measure() (Moment, error) {
	type result struct {
		moment Moment
		err    error
	}
	done := make(chan result)
	go func() { // its thread is pinned, and ends with it
		if err := Pin(f.core); err != nil {
			done <- result{err: err}
			return
		}
		moment, err := f.moment()
		done <- result{moment, err}
	}()
	r := <-done
	return r.moment, r.err
}

// moment measures the width of this core, then of the other one, then the way between them.
func (f *Floor) moment() (m Moment, err error) {
	m.Width = Width()
	if _, err := f.start.Write([]byte{1}); err != nil {
		return m, err
	}
	m.Trip, err = f.bounce()
	m.Width = min(m.Width, math.Float64frombits(f.page.width.Load()))
	return m, err
}

func (f *Floor) bounce() (time.Duration, error) {
	deadline := Now() + int64(10*time.Second)
	trip := func() error {
		f.at++
		f.page.ping.Store(f.at)
		for i := 0; f.page.pong.Load() != f.at; i++ {
			if i%(1<<20) == 1<<20-1 && Now() > deadline {
				return errors.New("measure: the other end of the floor does not answer")
			}
		}
		return nil
	}
	for range 200 { // until the other end has woken up
		if err := trip(); err != nil {
			return 0, err
		}
	}
	samples := make([]int64, floorSamples)
	for i := range samples {
		start := Now()
		for range floorTrips {
			if err := trip(); err != nil {
				return 0, err
			}
		}
		samples[i] = (Now() - start) / floorTrips
	}
	f.page.ping.Store(quitFloor)
	for f.page.ping.Load() == quitFloor && Now() < deadline { // it takes the word back and sleeps
	}
	slices.Sort(samples)
	return time.Duration(samples[len(samples)/2]), nil
}

// Close ends the other process.
func (f *Floor) Close() error {
	return errors.Join(f.start.Close(), f.child.Wait(), f.page.Close())
}

// ServeFloor is the other end: it answers while a measurement lasts and sleeps between them. It ends with its parent.
func ServeFloor(dir string, core int) error {
	if err := Pin(core); err != nil {
		return err
	}
	page, err := OpenPage(dir)
	if err != nil {
		return err
	}
	parent := os.Getppid()
	for buf := make([]byte, 1); ; {
		if _, err := os.Stdin.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		page.width.Store(math.Float64bits(Width()))
		last := page.pong.Load()
		for i := 1; ; i++ {
			if i%(1<<24) == 0 && os.Getppid() != parent {
				return nil
			}
			v := page.ping.Load()
			if v == quitFloor && page.ping.CompareAndSwap(quitFloor, last) {
				break
			}
			if v != last && v != quitFloor {
				last = v
				page.pong.Store(v)
			}
		}
	}
}

// Width measures how many instructions per cycle this core executes when none waits for another. A core whose other hardware thread works for another virtual
// machine has some two thirds of what it has alone, and everything takes as much longer that instructions limit. Nothing else tells of that from inside:
// what waits, for memory or for the instruction before, takes as long as ever.
func Width() float64 {
	const (
		chain, latency = 8000, 3          // multiplications, and cycles that each waits for the one before, on all that is 64 bits wide and not very old
		turns, each    = 2 * chain, 6 + 3 // of a loop, and instructions in it
	)
	samples := make([]float64, 9)
	for i := range samples {
		start := Now()
		x := uint64(start)
		for range chain {
			x *= 0x9E3779B97F4A7C15
		}
		between := Now()
		var a, b, c, d, e, f uint64
		for range turns {
			a += 3
			b += 5
			c += 7
			d += 11
			e += 13
			f += 17
		}
		end := Now()
		cycles := float64(end-between) / float64(between-start) * chain * latency
		if x+a+b+c+d+e+f == 0 { // the compiler cannot know that it is not, and must have the loops executed
			cycles = 0
		}
		samples[i] = turns * each / cycles
	}
	slices.Sort(samples)
	return samples[len(samples)/2]
}

// Copy measures how long memory takes to be copied once, from and to memory that is warm, as far as it fits.
func Copy(size int) time.Duration {
	const total = 8 << 20
	from, to := make([]byte, size), make([]byte, size)
	copy(to, from)
	n := max(1, total/size)
	samples := make([]int64, 5)
	for i := range samples {
		start := Now()
		for range n {
			copy(to, from)
		}
		samples[i] = (Now() - start) / int64(n)
	}
	slices.Sort(samples)
	return time.Duration(samples[len(samples)/2])
}

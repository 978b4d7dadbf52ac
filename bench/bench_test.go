package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cd1900cf/millrace/futex"
	"github.com/cd1900cf/millrace/ring"
)

// Every benchmark runs two processes, pinned to the first two cores: this one sends, the test binary started again receives.
// ns/op is the time per message, from the first send to the receipt of the last. Compare rows of one run only, and mind the floor.

const slots = 1024

// shared is a page that both processes map: what the peer is to do next.
type shared struct {
	target atomic.Uint64 // messages to receive in all
	_      [120]byte
	done   atomic.Uint64 // messages received in all
	_      [120]byte
	ping   atomic.Uint64
	_      [120]byte
	pong   atomic.Uint64
}

// mechanism is one way to carry messages: each side opens it and gets a function that moves n of them.
type mechanism struct {
	name string
	open func(dir string, size, batch int, first bool) (send, receive func(n int), closer func(), err error)
}

var mechanisms = []mechanism{
	{"millrace-spsc", openRing(ring.SPSC, true)},
	{"millrace-spsc-unguarded", openRing(ring.SPSC, false)},
	{"millrace-mpmc", openRing(ring.MPMC, true)},
	{"millrace-mpmc-unguarded", openRing(ring.MPMC, false)},
	{"bare-spsc", openBare},
	{"vyukov", openVyukov},
}

var typedMechanisms = []mechanism{
	{"millrace-typed-spsc", openTyped(ring.SPSC)},
	{"millrace-typed-mpmc", openTyped(ring.MPMC)},
}

func BenchmarkOne(b *testing.B) {
	for _, size := range []int{8, 64, 256} {
		for _, m := range mechanisms {
			b.Run(fmt.Sprintf("size=%d/%s", size, m.name), func(b *testing.B) { measure(b, m, size, 1) })
		}
	}
}

func BenchmarkBatch32(b *testing.B) {
	for _, size := range []int{8, 64, 256} {
		for _, m := range mechanisms[:4] {
			b.Run(fmt.Sprintf("size=%d/%s", size, m.name), func(b *testing.B) { measure(b, m, size, 32) })
		}
	}
}

// BenchmarkTypedBatch32 moves values of 8 bytes by typed batches.
func BenchmarkTypedBatch32(b *testing.B) {
	for _, m := range typedMechanisms {
		b.Run(m.name, func(b *testing.B) { measure(b, m, 8, 32) })
	}
}

// BenchmarkFloor bounces one cache line between the two processes: ns/op is a round trip.
func BenchmarkFloor(b *testing.B) {
	page, stop := startPeer(b, "floor", 0, 0, b.TempDir())
	defer stop()
	b.ResetTimer()
	for i := uint64(1); i <= uint64(b.N); i++ {
		page.ping.Store(i)
		for page.pong.Load() != i {
		}
	}
}

func measure(b *testing.B, m mechanism, size, batch int) {
	dir := b.TempDir()
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		dir, err = os.MkdirTemp("/dev/shm", "millrace-bench-")
		if err != nil {
			b.Fatal(err)
		}
		defer os.RemoveAll(dir)
	}
	send, _, closer, err := m.open(dir, size, batch, true)
	if err != nil {
		b.Fatal(err)
	}
	page, stop := startPeer(b, m.name, size, batch, dir)
	n := (b.N + batch - 1) / batch * batch
	b.ResetTimer()
	page.target.Add(uint64(n))
	send(n)
	for page.done.Load() != page.target.Load() {
		futex.Pause(1)
	}
	b.StopTimer()
	closer()
	stop()
}

// startPeer starts the other process and waits until it is ready.
func startPeer(b *testing.B, what string, size, batch int, dir string) (*shared, func()) {
	b.Helper()
	path := dir + "/page"
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		b.Fatal(err)
	}
	page := mapPage(path)
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "BENCH_PEER="+strings.Join([]string{what, strconv.Itoa(size), strconv.Itoa(batch), dir}, ","))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	pin(0) // after the start: the peer would inherit it
	for page.pong.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	page.pong.Store(0)
	return page, func() {
		page.target.Store(^uint64(0))
		page.ping.Store(^uint64(0))
		if err := cmd.Wait(); err != nil {
			b.Error("peer:", err)
		}
		pin(0, 1)
		runtime.UnlockOSThread()
	}
}

func TestMain(m *testing.M) {
	if v := os.Getenv("BENCH_PEER"); v != "" {
		if err := peer(strings.Split(v, ",")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// peer is the receiving process.
func peer(args []string) error {
	runtime.LockOSThread()
	pin(1)
	size, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	batch, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	page := mapPage(args[3] + "/page")
	if args[0] == "floor" {
		page.pong.Store(1)
		for page.pong.Load() != 0 {
		}
		for last := uint64(0); ; {
			v := page.ping.Load()
			if v == ^uint64(0) {
				return nil
			}
			if v != last {
				last = v
				page.pong.Store(v)
			}
		}
	}
	for _, m := range append(mechanisms, typedMechanisms...) {
		if m.name != args[0] {
			continue
		}
		_, receive, closer, err := m.open(args[3], size, batch, false)
		if err != nil {
			return err
		}
		page.pong.Store(1)
		for got := uint64(0); ; {
			target := page.target.Load()
			if target == ^uint64(0) {
				closer()
				return nil
			}
			if target == got {
				futex.Pause(8)
				continue
			}
			receive(int(target - got))
			got = target
			page.done.Store(got)
		}
	}
	return fmt.Errorf("unknown mechanism %s", args[0])
}

func openRing(kind ring.Kind, guarded bool) func(dir string, size, batch int, first bool) (func(int), func(int), func(), error) {
	return func(dir string, size, batch int, first bool) (send, receive func(int), closer func(), err error) {
		r, err := benchRing(kind, dir, size, first)
		if err != nil {
			return nil, nil, nil, err
		}
		closer = func() { must(r.Close()) }
		ctx := context.Background()
		if first {
			var o []ring.ProducerOption
			if !guarded {
				o = append(o, ring.WithoutFaultGuard())
			}
			p, err := r.NewProducer(o...)
			if err != nil {
				return nil, nil, nil, err
			}
			msg := make([]byte, size)
			msgs := make([][]byte, batch)
			for i := range msgs {
				msgs[i] = msg
			}
			return func(n int) {
				for i := 0; i < n; i += batch {
					if batch == 1 {
						binary.LittleEndian.PutUint64(msg, uint64(i))
						must(p.Send(ctx, msg))
					} else if _, err := p.SendBatch(ctx, msgs); err != nil {
						panic(err)
					}
				}
			}, nil, closer, nil
		}
		var o []ring.ConsumerOption
		if !guarded {
			o = append(o, ring.WithoutFaultGuard())
		}
		q, err := r.NewConsumer(o...)
		if err != nil {
			return nil, nil, nil, err
		}
		buf := make([]byte, size)
		return nil, func(n int) {
			for n > 0 {
				if batch == 1 {
					if _, err := q.Receive(ctx, buf); err == io.EOF {
						return
					} else if err != nil {
						panic(err)
					}
					n--
					continue
				}
				b, err := q.NextBatch(ctx, batch)
				if err == io.EOF {
					return
				}
				must(err)
				for i := range b.Len() {
					copy(buf, b.At(i).Bytes())
				}
				n -= b.Len()
				must(b.Release())
			}
		}, closer, nil
	}
}

// openTyped is openRing for values of 8 bytes.
func openTyped(kind ring.Kind) func(dir string, size, batch int, first bool) (func(int), func(int), func(), error) {
	return func(dir string, size, batch int, first bool) (send, receive func(int), closer func(), err error) {
		r, err := benchRing(kind, dir, size, first)
		if err != nil {
			return nil, nil, nil, err
		}
		values := make([]uint64, batch)
		ctx := context.Background()
		if first {
			p, err := ring.NewTypedProducer[uint64](r)
			if err != nil {
				return nil, nil, nil, err
			}
			return func(n int) {
				for i := 0; i < n; i += batch {
					if _, err := p.SendBatch(ctx, values); err != nil {
						panic(err)
					}
				}
			}, nil, func() { must(r.Close()) }, nil
		}
		q, err := ring.NewTypedConsumer[uint64](r)
		if err != nil {
			return nil, nil, nil, err
		}
		return nil, func(n int) {
			for n > 0 {
				k, err := q.ReceiveBatch(ctx, values)
				if err == io.EOF {
					return
				}
				must(err)
				n -= k
			}
		}, func() { must(r.Close()) }, nil
	}
}

// benchRing creates or opens the ring that is measured.
func benchRing(kind ring.Kind, dir string, size int, first bool) (*ring.Ring, error) {
	if first {
		return ring.Create("bench", ring.Options{Kind: kind, Slots: slots, SlotSize: size, Dir: dir})
	}
	return ring.Open("bench", ring.WithDir(dir))
}

func openBare(dir string, size, batch int, first bool) (send, receive func(int), closer func(), err error) {
	mem := mapFile(dir+"/bare", BareBytes(slots, size))
	q := NewBare(mem, slots, size)
	msg := make([]byte, size)
	send = func(n int) {
		for i := range n {
			binary.LittleEndian.PutUint64(msg, uint64(i))
			for !q.TrySend(msg) {
				futex.Pause(1)
			}
		}
	}
	receive = func(n int) {
		for range n {
			for !q.TryReceive(msg) {
				futex.Pause(1)
			}
		}
	}
	return send, receive, func() {}, nil
}

func openVyukov(dir string, size, batch int, first bool) (send, receive func(int), closer func(), err error) {
	mem := mapFile(dir+"/vyukov", VyukovBytes(slots, size))
	q := NewVyukov(mem, slots, size, first)
	msg := make([]byte, size)
	send = func(n int) {
		for i := range n {
			binary.LittleEndian.PutUint64(msg, uint64(i))
			for !q.TrySend(msg) {
				futex.Pause(1)
			}
		}
	}
	receive = func(n int) {
		for range n {
			for !q.TryReceive(msg) {
				futex.Pause(1)
			}
		}
	}
	return send, receive, func() {}, nil
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// mapFile maps size bytes of a file, which is made when it is not there.
func mapFile(path string, size int) []byte {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	must(err)
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() < int64(size) {
		must(f.Truncate(int64(size)))
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(err)
	return mem
}

func mapPage(path string) *shared {
	return (*shared)(unsafe.Pointer(unsafe.SliceData(mapFile(path, 4096))))
}

// pin binds the calling thread to some cores.
func pin(cpus ...int) {
	mask := [16]uint64{}
	for _, cpu := range cpus {
		mask[0] |= 1 << cpu
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask))); e != 0 {
		fmt.Fprintln(os.Stderr, "bench: not pinned:", e)
	}
}

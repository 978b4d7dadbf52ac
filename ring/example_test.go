//go:build linux && (amd64 || arm64)

package ring_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/cd1900cf/millrace/ring"
)

// exampleDir returns a directory of its own for the rings of an example.
func exampleDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("/dev/shm", "millrace-example-")
	if err != nil {
		log.Fatal(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}

// must ends an example that cannot go on.
func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

// Both sides are shown in one process; they may as well be two unrelated ones that open the ring by its name.
func Example() {
	dir, remove := exampleDir()
	defer remove()
	ctx := context.Background()

	r, created, err := ring.OpenOrCreate("greetings", ring.Options{Kind: ring.MPMC, Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	fmt.Println("created:", created)

	p := must(r.NewProducer())
	q := must(r.NewConsumer())
	for _, word := range []string{"hello", "world"} {
		if err := p.Send(ctx, []byte(word)); err != nil {
			log.Fatal(err)
		}
	}
	if err := p.Close(); err != nil { // the stream ends when the last producer closes
		log.Fatal(err)
	}
	buf := make([]byte, r.MaxMessage())
	for {
		n, err := q.Receive(ctx, buf)
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(buf[:n]))
	}
	// Output:
	// created: true
	// hello
	// world
}

// A message is written where it will lie, and read where it lies.
func ExampleProducer_Reserve() {
	r := must(ring.NewHeap(ring.Options{Slots: 64, SlotSize: 32}))
	defer r.Close()
	p, q := must(r.NewProducer()), must(r.NewConsumer())
	ctx := context.Background()

	room := must(p.Reserve(ctx, 100)) // four slots, one contiguous slice
	n := copy(room.Bytes(), "written in place")
	if err := room.CommitN(n); err != nil { // what was not needed goes back
		log.Fatal(err)
	}
	m := must(q.Next(ctx))
	fmt.Printf("%s, position %d\n", m.Bytes(), m.Position())
	if err := m.Release(); err != nil {
		log.Fatal(err)
	}
	fmt.Println("second release:", errors.Is(m.Release(), ring.ErrMisuse))
	// Output:
	// written in place, position 0
	// second release: true
}

// A batch is claimed in one step and becomes readable at once; it is released in parts or as a whole.
func ExampleConsumer_NextBatch() {
	r := must(ring.NewHeap(ring.Options{Kind: ring.SPSC}))
	defer r.Close()
	p, q := must(r.NewProducer()), must(r.NewConsumer())
	ctx := context.Background()

	must(p.SendBatch(ctx, [][]byte{[]byte("a"), []byte("bc"), []byte("def")}))
	b := must(q.NextBatch(ctx, 32))
	for i := range b.Len() {
		fmt.Printf("%d %s\n", i, b.At(i).Bytes())
	}
	if err := b.Release(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 0 a
	// 1 bc
	// 2 def
}

// All ranges over the messages until the end of the stream and releases each after its step.
func ExampleConsumer_All() {
	r := must(ring.NewHeap(ring.Options{}))
	defer r.Close()
	p, q := must(r.NewProducer()), must(r.NewConsumer())

	must(p.TrySendBatch([][]byte{[]byte("north"), []byte("south")}))
	if err := p.Close(); err != nil {
		log.Fatal(err)
	}
	for m, err := range q.All(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(m.Bytes()))
	}
	// Output:
	// north
	// south
}

// A message that cannot be processed goes back, and whoever gets it next sees how often it was handed out.
func ExampleMessage_Return() {
	r := must(ring.NewHeap(ring.Options{}))
	defer r.Close()
	p, q := must(r.NewProducer()), must(r.NewConsumer())
	ctx := context.Background()

	if err := p.Send(ctx, []byte("job")); err != nil {
		log.Fatal(err)
	}
	m := must(q.Next(ctx))
	if err := m.Return(); err != nil {
		log.Fatal(err)
	}
	m = must(q.Next(ctx))
	fmt.Printf("%s, delivery %d, redelivered: %t\n", m.Bytes(), m.Deliveries(), m.Redelivered())
	if err := m.Release(); err != nil {
		log.Fatal(err)
	}
	// Output: job, delivery 2, redelivered: true
}

// A full ring pushes back; it never overwrites.
func ExampleProducer_TrySend() {
	r := must(ring.NewHeap(ring.Options{Slots: 2, SlotSize: 8}))
	defer r.Close()
	p := must(r.NewProducer())
	for i := range 3 {
		fmt.Println(i, p.TrySend([]byte("x")))
	}
	err := p.TrySend(make([]byte, 100))
	var size *ring.SizeError
	fmt.Println(errors.As(err, &size), size.Got, size.Max)
	// Output:
	// 0 <nil>
	// 1 <nil>
	// 2 ring: full
	// true 100 8
}

// Values without pointers travel as they are. The ring remembers their layout and refuses another.
func ExampleNewTypedProducer() {
	type tick struct {
		Price int64
		Count uint32
		Side  uint8
		_     [3]byte // no hidden padding
	}
	r := must(ring.NewHeap(ring.Options{Kind: ring.SPSC}))
	defer r.Close()
	p, q := must(ring.NewTypedProducer[tick](r)), must(ring.NewTypedConsumer[tick](r))
	ctx := context.Background()

	must(p.SendBatch(ctx, []tick{{Price: 101, Count: 7}, {Price: 102, Count: 3}}))
	got := make([]tick, 8)
	n := must(q.ReceiveBatch(ctx, got))
	for _, t := range got[:n] {
		fmt.Println(t.Price, t.Count)
	}
	_, err := ring.NewTypedProducer[uint64](r)
	fmt.Println("another type:", errors.Is(err, ring.ErrMismatch))
	// Output:
	// 101 7
	// 102 3
	// another type: true
}

// An observer needs read permission only, registers nothing and takes nothing.
func ExampleReadOnly() {
	dir, remove := exampleDir()
	defer remove()
	r := must(ring.Create("jobs", ring.Options{Dir: dir}))
	defer r.Close()
	p := must(r.NewProducer())
	must(p.TrySendBatch([][]byte{[]byte("one"), []byte("two")}))

	seen := must(ring.Open("jobs", ring.WithDir(dir), ring.ReadOnly()))
	defer seen.Close()
	s := seen.Stats()
	fmt.Printf("%d of %d slots used, %d sent, %d received, %d producer\n", s.Used, s.Slots, s.Sent, s.Received, s.ProducersLive)
	err := seen.Peek(1, func(position uint64, deliveries int, payload []byte) bool {
		fmt.Printf("next: %s\n", payload)
		return true
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("removed while in use:", errors.Is(ring.Remove("jobs", ring.WithDir(dir)), ring.ErrInUse))
	// Output:
	// 2 of 1024 slots used, 2 sent, 0 received, 1 producer
	// next: one
	// removed while in use: true
}

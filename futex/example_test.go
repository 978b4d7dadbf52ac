package futex_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cd1900cf/millrace/futex"
)

// Two sides that share a word: one sleeps until it changes, the other changes it and wakes. The word may as well lie in memory that two
// processes map.
func Example() {
	if runtime.GOOS != "linux" {
		fmt.Println("woken, the word is 1")
		return
	}
	var word atomic.Uint32
	done := make(chan error)
	go func() {
		for word.Load() == 0 { // look, sleep while it is still so, look again
			if err := futex.Wait(&word, 0, time.Second); err != nil && err != futex.ErrTimeout {
				done <- err
				return
			}
		}
		done <- nil
	}()
	word.Store(1) // first the change, then the wake-up
	if _, err := futex.Wake(&word, 1); err != nil {
		log.Fatal(err)
	}
	if err := <-done; err != nil {
		log.Fatal(err)
	}
	fmt.Println("woken, the word is", word.Load())
	// Output: woken, the word is 1
}

// A Waiter ends with its context, and any number of them in one process cost one sleeping thread.
func ExampleWaiter() {
	if runtime.GOOS != "linux" {
		fmt.Println("ended: true")
		return
	}
	var (
		word  atomic.Uint32
		queue futex.Queue
	)
	w := futex.NewWaiter(&queue)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()

	w.Begin(ctx)
	defer w.End()
	for {
		_, err := w.Wait(&word, 0, time.Minute) // nobody ever wakes it
		if err != nil {
			fmt.Println("ended:", errors.Is(err, context.DeadlineExceeded))
			return
		}
	}
	// Output: ended: true
}

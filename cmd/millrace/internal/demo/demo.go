// Package demo streams a real tree of files through one ring, between processes that it kills with SIGKILL and restarts
// without end, and keeps an account of every message.
//
// The parent starts producers and consumers as processes of their own (fleet.go): the same binary with a hidden verb, which
// calls Work. A producer (producer.go) goes through its share of the files, chunk by chunk, and records how far it has come
// behind each commit; its successor goes on there. A consumer (consumer.go) reports each message to the parent through a
// pipe, with its checksum, and releases it afterwards. The parent alone keeps the account (account.go), from these reports
// and from the files on disk.
package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

// The demo's ring: 4 MiB of payload, most chunks take several slots.
const (
	slots    = 2048
	slotSize = 2048
)

// What worker processes are.
const (
	roleProducer = "producer"
	roleConsumer = "consumer"
)

// wantedKills is how many kills there are at least when no duration is given, unless they are so rare that it would take
// longer than killingTime.
const (
	wantedKills = 20
	killingTime = 40 * time.Second
)

// MinKillEvery is the shortest pause between kills that lets processes do something before they are killed.
const MinKillEvery = 10 * time.Millisecond

// Config says what to stream and how to disturb it.
type Config struct {
	Kind      ring.Kind
	Producers int
	Consumers int
	KillEvery time.Duration // 0: nobody is killed
	Duration  time.Duration // the input is repeated until then; 0: once, and until enough processes were killed
	Input     string        // file or directory
	Dir       string        // of the ring

	Made     func(ring string) // called when the ring is made; Run removes it, unless the process ends first
	Announce func(text string) // called once, when everything is ready
	Progress func(line string) // called several times a second; nil: never
}

// wanted returns how many kills to wait for.
func (c *Config) wanted() int {
	if c.KillEvery == 0 {
		return 0
	}
	return min(wantedKills, max(1, int(killingTime/c.KillEvery)))
}

// Run streams the input and returns the account. An error says why there is none. When ctx ends, it comes to an end early,
// with an account of what was streamed until then.
func Run(ctx context.Context, c Config) (result *Result, err error) {
	files, skipped, err := scan(ctx, c.Input)
	if err != nil {
		return nil, err
	}
	r, name, err := makeRing(&c)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, r.Close())
		err = errors.Join(err, ring.Remove(name, ring.WithDir(c.Dir), ring.WithForce()))
	}()
	if c.Made != nil {
		c.Made(name)
	}
	f, err := newFleet(&c, r, name, files)
	if err != nil {
		return nil, err
	}
	defer f.close()
	if c.Announce != nil {
		c.Announce(fmt.Sprintf("%s ring %s, %d producers, %d consumers, %d files (%.1f MB) from %s", c.Kind, name, c.Producers, c.Consumers,
			len(files), float64(bytesOf(files))/1e6, c.Input))
	}
	if err := f.run(ctx); err != nil {
		return nil, err
	}
	totals, err := f.totals()
	if err != nil {
		return nil, err
	}
	return f.account.result(&c, name, skipped, totals, r.Stats()), nil
}

// makeRing makes a ring under a name that nobody else has.
func makeRing(c *Config) (*ring.Ring, string, error) {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	name := "demo-" + hex.EncodeToString(random[:])
	r, err := ring.Create(name, ring.Options{
		Kind: c.Kind, Slots: slots, SlotSize: slotSize, Dir: c.Dir, Temporary: true, Participants: max(64, 2*(c.Producers+c.Consumers)),
	})
	return r, name, err
}

func bytesOf(files []file) (n int64) {
	for i := range files {
		n += files[i].size
	}
	return n
}

// Worker is what a worker process was started as.
type Worker struct {
	Role        string
	Ring, Dir   string
	Index       int
	Incarnation int
	Producers   int
}

// args are the arguments behind the hidden verb.
func (w *Worker) args() []string {
	return []string{w.Role, w.Ring, w.Dir, fmt.Sprint(w.Index), fmt.Sprint(w.Incarnation), fmt.Sprint(w.Producers)}
}

// Work is a worker process: it does what args say, as the parent passed them.
func Work(ctx context.Context, args []string) error {
	if len(args) != 6 {
		return errors.New("started by `millrace demo` only")
	}
	w := Worker{Role: args[0], Ring: args[1], Dir: args[2]}
	for i, p := range []*int{&w.Index, &w.Incarnation, &w.Producers} {
		if _, err := fmt.Sscan(args[3+i], p); err != nil {
			return fmt.Errorf("argument %q: %w", args[3+i], err)
		}
	}
	switch w.Role {
	case roleProducer:
		return produce(ctx, w)
	case roleConsumer:
		return consume(ctx, w)
	}
	return fmt.Errorf("no such worker: %s", w.Role)
}

// scratch makes a file without a name: it is gone when the last process that has it open ends.
func scratch() (*os.File, error) {
	f, err := os.CreateTemp("", "millrace-demo-*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

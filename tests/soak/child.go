//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

// A child takes part in one ring after the other, as the parent says, until it is killed or the parent goes.

// What a child inherits.
const (
	fdReports = 3 // pipe to the parent
	fdWindow  = 4 // memory that the parent can read after a death: what is copied out of the ring goes there
)

const windowSize = 1 << 16

// orders are lines from the parent: "join ROLE DIR NAME INCARNATION TYPED", "leave", and to consumers "finish": leave at the end of the stream.
type child struct {
	orders chan string
	out    reporter
	window []byte
}

// runChild goes on until the process is killed, or the parent goes. It returns only with an error.
func runChild() error {
	window, err := syscall.Mmap(fdWindow, 0, windowSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the window: %w", err)
	}
	c := &child{orders: make(chan string, 4), out: reporter{to: os.NewFile(fdReports, "reports")}, window: window}
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			c.orders <- in.Text()
		}
		os.Exit(0) // the parent is gone
	}()
	for err == nil {
		err = c.session(<-c.orders)
	}
	return err
}

// session is one participation.
type session struct {
	*child
	r           *ring.Ring
	incarnation uint64
	typed       bool
	random      *rand.Rand
	finish      atomic.Bool // go on until the end of the stream
}

// join is the order to take part in a ring.
type join struct {
	role, dir, name string
	incarnation     uint64
	typed           bool
}

func (j join) String() string {
	return fmt.Sprintf("join %s %s %s %d %t", j.role, j.dir, j.name, j.incarnation, j.typed)
}

func (c *child) session(order string) error {
	var j join
	if _, err := fmt.Sscanf(order, "join %s %s %s %d %t", &j.role, &j.dir, &j.name, &j.incarnation, &j.typed); err != nil {
		return fmt.Errorf("order %q: %w", order, err)
	}
	r, err := ring.Open(j.name, ring.WithDir(j.dir))
	if err != nil {
		return err
	}
	s := &session{child: c, r: r, incarnation: j.incarnation, typed: j.typed, random: rand.New(rand.NewPCG(j.incarnation, 1))}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	obeyed := make(chan struct{})
	go func() {
		defer close(obeyed)
		for {
			select {
			case <-ended:
				return
			case order := <-c.orders:
				if strings.HasPrefix(order, "finish") {
					s.finish.Store(true)
					continue
				}
				cancel()
				return
			}
		}
	}()
	if j.role == "producer" {
		err = s.produce(ctx)
	} else {
		err = s.consume(ctx)
	}
	close(ended)
	<-obeyed
	cancel()
	if e := r.Close(); err == nil {
		err = e
	}
	if err == nil {
		c.out.say(report{kind: sayLeft})
	}
	return err
}

// dawdle lets a little time pass now and then, so that kills and stops fall everywhere.
func (s *session) dawdle() {
	if s.random.IntN(3) == 0 {
		time.Sleep(time.Duration(s.random.IntN(1200)) * time.Microsecond)
	}
}

// linger lets more time pass, with a message in the hands, so that many kills fall there.
func (s *session) linger() {
	if s.dawdle(); s.random.IntN(12) == 0 {
		time.Sleep(time.Duration(s.random.IntN(40)) * time.Millisecond)
	}
}

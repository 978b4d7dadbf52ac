//go:build testpoint && linux

package recovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/clock"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// The children: a victim that is killed in a certain state, and a peer that waits for what the victim will not do any more.

var forever = context.Background()

// pollEvery is how long a caller that only polls lets go by between two calls.
const pollEvery = time.Millisecond

var message = []byte("0123456789abcdef")

// open opens the ring of the sample.
func open(c *proc.Child) (*ring.Ring, error) { return ring.Open("q", ring.WithDir(c.Args[0])) }

// victim does what its second argument says, and waits to be killed.
func victim(c *proc.Child) error {
	r, err := open(c)
	if err != nil {
		return err
	}
	do := victims[c.Args[1]]
	if err := do(c, r); err != nil {
		return err
	}
	c.Say("ready")
	c.Wait()
	return errors.New("it was not killed")
}

var victims = map[string]func(c *proc.Child, r *ring.Ring) error{
	"producer": func(_ *proc.Child, r *ring.Ring) error {
		_, err := r.NewProducer()
		return err
	},
	"consumer": func(_ *proc.Child, r *ring.Ring) error {
		_, err := r.NewConsumer()
		return err
	},
	"reserve": func(_ *proc.Child, r *ring.Ring) error {
		p, err := r.NewProducer()
		if err != nil {
			return err
		}
		_, err = p.Reserve(forever, len(message))
		return err
	},
	"lease": func(_ *proc.Child, r *ring.Ring) error {
		q, err := r.NewConsumer()
		if err != nil {
			return err
		}
		_, err = q.Next(forever)
		return err
	},
	"slept, lease": func(c *proc.Child, r *ring.Ring) error { // it has waited before: the kernel has more to clear away
		q, err := r.NewConsumer()
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(forever, 5*time.Millisecond)
		defer cancel()
		if _, err := q.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("the ring is not empty: %w", err)
		}
		c.Say("slept")
		_, err = q.Next(forever)
		return err
	},
	"send": func(c *proc.Child, r *ring.Ring) error { // and is stopped on the way
		p, err := r.NewProducer()
		if err != nil {
			return err
		}
		c.Say("registered")
		c.Wait()
		return p.Send(forever, message)
	},
	"receive": func(c *proc.Child, r *ring.Ring) error { // and is stopped on the way
		q, err := r.NewConsumer()
		if err != nil {
			return err
		}
		c.Say("registered")
		c.Wait()
		_, err = q.Receive(forever, make([]byte, len(message)))
		return err
	},
}

// peer waits as its second argument says, and tells when the wait was over, and how.
func peer(c *proc.Child) error {
	r, err := open(c)
	if err != nil {
		return err
	}
	wait, err := peers[c.Args[1]](r)
	if err != nil {
		return err
	}
	c.Say("waiting")
	err = wait(func() { c.Say("turned away") })
	now := clock.Now()
	c.Say("over %d %s", now, outcome(err))
	c.Wait()
	return nil
}

// outcome names the end of a wait.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, io.EOF):
		return "EOF"
	case errors.Is(err, ring.ErrNoConsumers):
		return "ErrNoConsumers"
	}
	return err.Error()
}

// peers make the call that waits. Those that poll call back once they were turned away for longer than a look for the dead takes to come.
var peers = map[string]func(*ring.Ring) (func(turnedAway func()) error, error){
	"Receive": func(r *ring.Ring) (func(func()) error, error) {
		q, err := r.NewConsumer()
		return func(func()) error {
			_, err := q.Receive(forever, make([]byte, len(message)))
			return err
		}, err
	},
	"Send": func(r *ring.Ring) (func(func()) error, error) {
		p, err := r.NewProducer()
		return func(func()) error { return p.Send(forever, message) }, err
	},
	"TryReceive": func(r *ring.Ring) (func(func()) error, error) {
		q, err := r.NewConsumer()
		return func(turnedAway func()) error {
			return poll(turnedAway, ring.ErrEmpty, func() error {
				_, err := q.TryReceive(make([]byte, len(message)))
				return err
			})
		}, err
	},
	"TrySend": func(r *ring.Ring) (func(func()) error, error) {
		p, err := r.NewProducer()
		return func(turnedAway func()) error {
			return poll(turnedAway, ring.ErrFull, func() error { return p.TrySend(message) })
		}, err
	},
}

// poll calls f until it does not say no any more.
func poll(turnedAway func(), no error, f func() error) error {
	for n := 0; ; n++ {
		if err := f(); err != no {
			return err
		}
		if n == 30 {
			turnedAway()
		}
		time.Sleep(pollEvery)
	}
}

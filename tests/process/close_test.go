//go:build linux

package process

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
)

// closeHandles closes the handles of the test's process.
func (e *ends) closeHandles(t *testing.T) {
	if e.p != nil {
		require.NoError(t, e.p.Close())
	}
	if e.c != nil {
		require.NoError(t, e.c.Close())
	}
	if e.tp != nil {
		require.NoError(t, e.tp.Close())
	}
	if e.tc != nil {
		require.NoError(t, e.tc.Close())
	}
}

// Closing a handle, or the ring, from another goroutine ends a blocked call with ErrClosed, which is os.ErrClosed.
func TestCloseEndsBlockedCalls(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for _, b := range blockingCalls {
			for _, what := range []string{"handle", "ring"} {
				t.Run(k.String()+"/"+b.name+"/"+what, func(t *testing.T) {
					t.Parallel()
					r, e, _, filled := b.blocked(t, k)
					observer, err := ring.Open("q", ring.WithDir(r.Options().Dir), ring.ReadOnly())
					require.NoError(t, err)
					defer func() { require.NoError(t, observer.Close()) }()
					n := 0
					wait := later(t, func() (err error) { n, err = b.do(e, context.Background()); return err })
					asleep(t, r, 0)
					if what == "ring" {
						require.NoError(t, r.Close())
					} else {
						if b.typed && !b.sends {
							require.NoError(t, e.tc.Close()) // its producer first would be the end of the stream
						}
						e.closeHandles(t)
					}
					err = wait()
					require.ErrorIs(t, err, ring.ErrClosed)
					require.ErrorIs(t, err, os.ErrClosed)
					require.Zero(t, n)
					_, err = b.do(e, context.Background())
					require.ErrorIs(t, err, ring.ErrClosed, "and further calls too")
					e.closeHandles(t) // once more
					s := observer.Stats()
					require.Equal(t, uint64(filled), s.Sent)
					require.Equal(t, filled, s.Used)
					require.Zero(t, s.ProducersDied+s.ConsumersDied, "a close is no death")
				})
			}
		}
	}
}

// Close may come from several goroutines, at the same time as calls that succeed.
func TestCloseWhileTheRingIsBusy(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			owner, dir := newRing(t, ring.Options{Kind: k, Slots: 8})
			sent, got := 0, 0
			for range 40 {
				r, err := ring.Open("q", ring.WithDir(dir))
				require.NoError(t, err)
				p, c := producerOf(t, r), consumerOf(t, r)
				var all sync.WaitGroup
				all.Go(func() {
					for p.Send(context.Background(), []byte("x")) == nil {
						sent++
					}
				})
				all.Go(func() {
					for {
						if _, err := c.Receive(context.Background(), make([]byte, 8)); err != nil {
							return
						}
						got++
					}
				})
				time.Sleep(2 * time.Millisecond) // some traffic
				for range 3 {
					all.Go(func() { _ = r.Close() }) // one of them closes; the others find it closed
				}
				all.Wait()
				require.NoError(t, r.Close())
			}
			s := owner.Stats()
			require.NotZero(t, got)
			require.Equal(t, sent-got, s.Used)
			require.Zero(t, s.ProducersDied+s.ConsumersDied)
			require.Zero(t, s.ProducersLive+s.ConsumersLive)
		})
	}
}

// Slices from Bytes may be read and written after Close: what they show is undefined, but they never fault, and the ring does not see it.
func TestBytesAfterCloseDoNotFault(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			owner, dir := newRing(t, ring.Options{Kind: k, Slots: 64, SlotSize: 512})
			r, err := ring.Open("q", ring.WithDir(dir))
			require.NoError(t, err)
			p, c := producerOf(t, r), consumerOf(t, r)
			big := make([]byte, r.MaxMessage()/2)
			for i := range big {
				big[i] = 'a'
			}
			require.NoError(t, p.Send(context.Background(), big))
			s, err := p.Reserve(context.Background(), 4000)
			require.NoError(t, err)
			m, err := c.Next(context.Background())
			require.NoError(t, err)
			slices := [][]byte{s.Bytes(), m.Bytes()}
			require.Len(t, slices[1], len(big))
			require.NoError(t, r.Close())
			for _, b := range slices {
				for i := range b {
					b[i]++
				}
			}
			require.ErrorIs(t, s.Commit(), ring.ErrClosed)
			require.ErrorIs(t, m.Release(), ring.ErrClosed)
			require.ErrorIs(t, m.Return(), ring.ErrClosed)
			require.Zero(t, r.Stats())
			require.Nil(t, r.Participants())
			_, err = r.NewConsumer()
			require.ErrorIs(t, err, ring.ErrClosed)
			_, err = r.NewProducer()
			require.ErrorIs(t, err, ring.ErrClosed)

			// The message is given back as it was sent, and the reservation never was.
			got, d := receiveString(t, consumerOf(t, owner))
			require.True(t, got == string(big), "the payload has changed")
			require.Equal(t, 2, d.Deliveries)
			require.Equal(t, uint64(1), owner.Stats().Discarded)
			require.Zero(t, owner.Stats().Used)
		})
	}
}

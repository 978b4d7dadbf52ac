package ring_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

// The API that other programs are compiled against. Each line below fails to compile when a signature changes.

var (
	_ func(string, ring.Options) (*ring.Ring, error)                   = ring.Create
	_ func(string, ...ring.OpenOption) (*ring.Ring, error)             = ring.Open
	_ func(string, ring.Options) (*ring.Ring, bool, error)             = ring.OpenOrCreate
	_ func(string, ...ring.OpenOption) error                           = ring.Remove
	_ func(string) ring.OpenOption                                     = ring.WithDir
	_ func() ring.OpenOption                                           = ring.IfDrained
	_ func() ring.OpenOption                                           = ring.ReadOnly
	_ func(*os.File, ...ring.OpenOption) (*ring.Ring, error)           = ring.OpenFile
	_ func() ring.ProducerOption                                       = ring.WaitForConsumers
	_ func() ring.ConsumerOption                                       = ring.Follow
	_ func(time.Duration) ring.ConsumerOption                          = ring.Grace
	_ func(*ring.Ring) (*os.File, error)                               = (*ring.Ring).File
	_ func(*ring.Ring) ring.Options                                    = (*ring.Ring).Options
	_ func(*ring.Ring) int                                             = (*ring.Ring).MaxMessage
	_ func(*ring.Ring) ring.Stats                                      = (*ring.Ring).Stats
	_ func(*ring.Ring) []ring.Participant                              = (*ring.Ring).Participants
	_ func(*ring.Ring) error                                           = (*ring.Ring).Close
	_ func(*ring.Ring, ...ring.ProducerOption) (*ring.Producer, error) = (*ring.Ring).NewProducer
	_ func(*ring.Ring, ...ring.ConsumerOption) (*ring.Consumer, error) = (*ring.Ring).NewConsumer

	_ func(*ring.Producer, context.Context, []byte) error                  = (*ring.Producer).Send
	_ func(*ring.Producer, []byte) error                                   = (*ring.Producer).TrySend
	_ func(*ring.Producer, context.Context, [][]byte) (int, error)         = (*ring.Producer).SendBatch
	_ func(*ring.Producer, [][]byte) (int, error)                          = (*ring.Producer).TrySendBatch
	_ func(*ring.Producer, context.Context, int) (ring.Reservation, error) = (*ring.Producer).Reserve
	_ func(*ring.Producer, int) (ring.Reservation, error)                  = (*ring.Producer).TryReserve
	_ func(*ring.Producer) error                                           = (*ring.Producer).Close
	_ func(ring.Reservation) []byte                                        = ring.Reservation.Bytes
	_ func(ring.Reservation) error                                         = ring.Reservation.Commit
	_ func(ring.Reservation, int) error                                    = ring.Reservation.CommitN
	_ func(ring.Reservation) error                                         = ring.Reservation.Discard

	_ func(*ring.Consumer, context.Context, []byte) (int, error)           = (*ring.Consumer).Receive
	_ func(*ring.Consumer, []byte) (int, error)                            = (*ring.Consumer).TryReceive
	_ func(*ring.Consumer, context.Context) (ring.Message, error)          = (*ring.Consumer).Next
	_ func(*ring.Consumer) (ring.Message, error)                           = (*ring.Consumer).TryNext
	_ func(*ring.Consumer, context.Context, int) (ring.Batch, error)       = (*ring.Consumer).NextBatch
	_ func(*ring.Consumer, int) (ring.Batch, error)                        = (*ring.Consumer).TryNextBatch
	_ func(*ring.Consumer, context.Context) iter.Seq2[ring.Message, error] = (*ring.Consumer).All
	_ func(*ring.Consumer) ring.Delivery                                   = (*ring.Consumer).Last
	_ func(*ring.Consumer) error                                           = (*ring.Consumer).Close
	_ func(ring.Message) []byte                                            = ring.Message.Bytes
	_ func(ring.Message) uint64                                            = ring.Message.Position
	_ func(ring.Message) bool                                              = ring.Message.Redelivered
	_ func(ring.Message) int                                               = ring.Message.Deliveries
	_ func(ring.Message) error                                             = ring.Message.Release
	_ func(ring.Message) error                                             = ring.Message.Return
	_ func(ring.Batch) int                                                 = ring.Batch.Len
	_ func(ring.Batch, int) ring.Message                                   = ring.Batch.At
	_ func(ring.Batch) error                                               = ring.Batch.Release

	_ func(*ring.Ring, ...ring.ProducerOption) (*ring.TypedProducer[tick], error) = ring.NewTypedProducer[tick]
	_ func(*ring.Ring, ...ring.ConsumerOption) (*ring.TypedConsumer[tick], error) = ring.NewTypedConsumer[tick]
	_ func(*ring.TypedProducer[tick], context.Context, *tick) error               = (*ring.TypedProducer[tick]).Send
	_ func(*ring.TypedProducer[tick], *tick) error                                = (*ring.TypedProducer[tick]).TrySend
	_ func(*ring.TypedProducer[tick], context.Context, []tick) (int, error)       = (*ring.TypedProducer[tick]).SendBatch
	_ func(*ring.TypedProducer[tick], []tick) (int, error)                        = (*ring.TypedProducer[tick]).TrySendBatch
	_ func(*ring.TypedProducer[tick]) error                                       = (*ring.TypedProducer[tick]).Close
	_ func(*ring.TypedConsumer[tick], context.Context, *tick) error               = (*ring.TypedConsumer[tick]).Receive
	_ func(*ring.TypedConsumer[tick], *tick) error                                = (*ring.TypedConsumer[tick]).TryReceive
	_ func(*ring.TypedConsumer[tick], context.Context, []tick) (int, error)       = (*ring.TypedConsumer[tick]).ReceiveBatch
	_ func(*ring.TypedConsumer[tick], []tick) (int, error)                        = (*ring.TypedConsumer[tick]).TryReceiveBatch
	_ func(*ring.TypedConsumer[tick]) error                                       = (*ring.TypedConsumer[tick]).Close
)

type tick struct{ A, B uint32 }

// Kinds, policies and the values of seg that Options take.
const (
	_ ring.Kind        = ring.SPSC
	_ ring.Kind        = ring.MPMC
	_ ring.DeathPolicy = ring.Redeliver
	_ ring.DeathPolicy = ring.Drop
	_ seg.Backing      = seg.POSIX
	_ seg.Backing      = seg.SysV
	_ seg.Backing      = seg.Memfd
	_ seg.HugePages    = seg.NoHuge
	_ seg.HugePages    = seg.Transparent
	_ seg.HugePages    = seg.Huge2M
	_ seg.HugePages    = seg.Huge1G
	_ ring.State       = ring.Live
	_ ring.State       = ring.Stalled
	_ ring.State       = ring.Dead
	_ uint32           = uint32(ring.SPSC) // both are 32 bits wide
	_ uint32           = uint32(ring.Redeliver)
)

// Every error of the API, and the types with their fields.
var (
	_ = []error{
		ring.ErrFull, ring.ErrEmpty, ring.ErrClosed, ring.ErrMisuse, ring.ErrRoleTaken, ring.ErrTooManyParticipants, ring.ErrNoConsumers,
		ring.ErrNotSegment, ring.ErrVersion, ring.ErrLayout, ring.ErrByteOrder, ring.ErrCorrupt, ring.ErrSegmentLost, ring.ErrMismatch, ring.ErrInUse,
		ring.ErrUnsupported,
		&ring.SizeError{Got: int(1), Max: int(2)},
		&ring.FormatError{Field: string("f"), Got: any(1), Want: any("x")},
		&ring.PeerError{Role: ring.Role(1), PID: int(1), Position: uint64(1), Err: error(nil)},
	}
	_ = ring.Options{
		Kind: ring.MPMC, Slots: int(1024), SlotSize: int(256), OnConsumerDeath: ring.Redeliver, MaxDeliveries: int(0), Participants: int(256),
		Backing: seg.POSIX, HugePages: seg.NoHuge, Perm: fs.FileMode(0o600), Dir: string(""), Logger: (*slog.Logger)(nil),
	}
	_ = ring.Participant{ID: int(0), Role: ring.Role(0), PID: int(0), State: ring.Live, Position: uint64(0), Age: time.Duration(0)}
	_ = ring.Delivery{Position: uint64(0), Deliveries: int(0)}
)

// statsFields takes every counter of Stats with its type.
func statsFields(s ring.Stats) ([]int, []uint64) {
	return []int{s.Slots, s.Used}, []uint64{
		s.ProducerPosition, s.ConsumerPosition, s.Sent, s.Received, s.Redelivered, s.Lost, s.Skipped, s.Padding, s.Discarded, s.Recoveries,
		s.Sleeps, s.Wakes, s.ProducersEver, s.ProducersLive, s.ProducersDied, s.ConsumersEver, s.ConsumersLive, s.ConsumersDied,
	}
}

func TestErrorsAreStandardErrors(t *testing.T) {
	for _, c := range []struct{ err, is error }{
		{ring.ErrClosed, os.ErrClosed},
		{ring.ErrNoConsumers, syscall.EPIPE},
		{ring.ErrUnsupported, errors.ErrUnsupported},
		{&ring.FormatError{Err: ring.ErrNotSegment}, ring.ErrNotSegment},
		{&ring.FormatError{Err: ring.ErrVersion}, ring.ErrVersion},
		{&ring.FormatError{Err: ring.ErrLayout}, ring.ErrLayout},
		{&ring.FormatError{Err: ring.ErrByteOrder}, ring.ErrByteOrder},
		{&ring.FormatError{Err: ring.ErrCorrupt}, ring.ErrCorrupt},
		{&ring.PeerError{Err: context.DeadlineExceeded}, context.DeadlineExceeded},
	} {
		require.ErrorIs(t, c.err, c.is)
		require.NotEmpty(t, c.err.Error())
	}
}

func TestZeroTokensAreHarmless(t *testing.T) {
	require.ErrorIs(t, ring.Message{}.Release(), ring.ErrMisuse)
	require.ErrorIs(t, ring.Message{}.Return(), ring.ErrMisuse)
	require.ErrorIs(t, ring.Batch{}.Release(), ring.ErrMisuse)
	require.ErrorIs(t, ring.Reservation{}.Commit(), ring.ErrMisuse)
	require.ErrorIs(t, ring.Reservation{}.CommitN(0), ring.ErrMisuse)
	require.ErrorIs(t, ring.Reservation{}.Discard(), ring.ErrMisuse)
	require.Nil(t, ring.Message{}.Bytes())
	require.Nil(t, ring.Reservation{}.Bytes())
	require.Zero(t, ring.Batch{}.Len())
}

func TestDefaultsAreThoseOfTheAPI(t *testing.T) {
	r, err := ring.NewHeap(ring.Options{})
	require.NoError(t, err)
	o := r.Options()
	require.Equal(t, ring.MPMC, o.Kind)
	require.Equal(t, 1024, o.Slots)
	require.Equal(t, 256, o.SlotSize)
	require.Equal(t, ring.Redeliver, o.OnConsumerDeath)
	require.Zero(t, o.MaxDeliveries)
	require.Equal(t, 256, o.Participants)
	require.Equal(t, seg.POSIX, o.Backing)
	require.EqualValues(t, 0o600, o.Perm)
	require.Equal(t, 256*512, r.MaxMessage())
	numbers, counters := statsFields(r.Stats())
	require.Equal(t, []int{1024, 0}, numbers)
	require.Equal(t, make([]uint64, len(counters)), counters)
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	_, err = r.NewProducer()
	require.ErrorIs(t, err, os.ErrClosed)
}

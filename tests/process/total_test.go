//go:build linux

package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// crowd is the number of processes that add to one total.
const crowd = 100

func init() {
	children["total pass"] = totalPass
	children["total add"] = totalAdd
}

// A hundred processes take a total out of a ring, add 1 and send it back, again and again: with one total on its way, and with several whose sum counts.
// Properties: no addition is lost or made twice, every process gets its turns, the totals went from process to process, and processes slept and were woken.
func TestTotalThatIsPassedOn(t *testing.T) {
	const rounds = 20
	dir := proc.Dir(t)
	runs := []struct{ slots, totals int }{{1, 1}, {64, 1}, {2, 2}, {64, 16}}
	args := []string{"total pass", dir, strconv.Itoa(rounds)}
	var rings []*ring.Ring
	for i, run := range runs {
		name := fmt.Sprint("total", i)
		r, err := ring.Create(name, ring.Options{Slots: run.slots, SlotSize: 16, Dir: dir})
		require.NoError(t, err)
		defer r.Close()
		rings, args = append(rings, r), append(args, name)
	}
	ps := make([]*proc.Proc, crowd)
	for i := range ps {
		ps[i] = proc.Start(t, append(args[:len(args):len(args)], strconv.Itoa(i)))
	}
	ctx, cancel := patience()
	defer cancel()
	for i, run := range runs {
		r := rings[i]
		p, err := r.NewProducer()
		require.NoError(t, err)
		start(ps...)
		for sleeps := uint64(0); sleeps == 0; sleeps = r.Stats().Sleeps {
			require.NoError(t, ctx.Err(), "nobody sleeps on an empty ring: %+v", r.Stats())
			time.Sleep(time.Millisecond)
		}
		for range run.totals {
			require.NoError(t, p.Send(ctx, make([]byte, 16)))
		}
		handed := 0
		for _, c := range ps {
			n, err := strconv.Atoi(c.Want("done"))
			require.NoError(t, err)
			handed += n
		}
		require.Greater(t, handed, 3*crowd, "additions to a total that another process had sent")
		require.NoError(t, p.Close())
		q, err := r.NewConsumer()
		require.NoError(t, err)
		sum, buf := uint64(0), make([]byte, 16)
		for range run.totals {
			n, err := q.Receive(ctx, buf)
			require.NoError(t, err)
			require.Equal(t, 16, n)
			sum += binary.LittleEndian.Uint64(buf)
		}
		_, err = q.Receive(ctx, buf)
		require.True(t, over(err), "%v", err)
		require.EqualValues(t, crowd*rounds, sum, "run %d of %+v", i, run)
		s := r.Stats()
		require.EqualValues(t, crowd*rounds+run.totals, s.Sent)
		require.EqualValues(t, crowd*rounds+run.totals, s.Received)
		require.Greater(t, s.ProducerPosition, uint64(s.Slots))
		require.NotZero(t, s.Sleeps, "%+v", s)
		require.NotZero(t, s.Wakes, "%+v", s)
		require.Zero(t, s.Redelivered+s.Lost+s.Skipped+s.ProducersDied+s.ConsumersDied, "%+v", s)
	}
	succeed(t, ps...)
}

// totalPass takes part in one ring after the other. Odd processes take the total by a lease.
func totalPass(args []string) error {
	dir, names := args[0], args[2:len(args)-1]
	rounds, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	index, err := strconv.Atoi(args[len(args)-1])
	if err != nil {
		return err
	}
	for _, name := range names {
		handed, err := passOn(dir, name, rounds, index)
		if err != nil {
			return fmt.Errorf("process %d, %s: %w", index, name, err)
		}
		say("done %d", handed)
	}
	return nil
}

// passOn does the rounds of process index, and returns how many totals came from another process.
func passOn(dir, name string, rounds, index int) (handed int, err error) {
	r, err := ring.Open(name, ring.WithDir(dir))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	p, err := r.NewProducer()
	if err != nil {
		return 0, err
	}
	q, err := r.NewConsumer()
	if err != nil {
		return 0, err
	}
	meet()
	ctx, cancel := patience()
	defer cancel()
	buf := make([]byte, 16)
	for range rounds {
		if index%2 == 0 {
			_, err = q.Receive(ctx, buf)
		} else {
			var m ring.Message
			if m, err = q.Next(ctx); err == nil {
				copy(buf, m.Bytes())
				err = m.Release()
			}
		}
		if err != nil {
			return handed, err
		}
		if from := binary.LittleEndian.Uint64(buf[8:]); from != uint64(index) {
			handed++
		}
		binary.LittleEndian.PutUint64(buf, binary.LittleEndian.Uint64(buf)+1)
		binary.LittleEndian.PutUint64(buf[8:], uint64(index))
		if err := p.Send(ctx, buf); err != nil {
			return handed, err
		}
		time.Sleep(10 * time.Microsecond) // lets others have it
	}
	return handed, nil
}

// A hundred processes send numbers to one that adds them up, by Send, TrySend, Reserve and SendBatch. Properties: the total is right, the adder sees the end
// only after the last number, every producer was heard in order, and the ring was full and slept on.
func TestTotalOfManyProducers(t *testing.T) {
	dir := proc.Dir(t)
	runs := []struct{ slots, numbers int }{{1, 10}, {32, 200}, {1024, 500}}
	args := []string{"total add", dir}
	var rings []*ring.Ring
	for i, run := range runs {
		name := fmt.Sprint("sum", i)
		r, err := ring.Create(name, ring.Options{Slots: run.slots, SlotSize: 16, Dir: dir})
		require.NoError(t, err)
		defer r.Close()
		rings, args = append(rings, r), append(args, name, strconv.Itoa(run.numbers))
	}
	ps := make([]*proc.Proc, crowd)
	for i := range ps {
		ps[i] = proc.Start(t, append(args[:len(args):len(args)], strconv.Itoa(i)))
	}
	ctx, cancel := patience()
	defer cancel()
	for i, run := range runs {
		r := rings[i]
		q, err := r.NewConsumer()
		require.NoError(t, err)
		start(ps...)
		for sleeps := uint64(0); sleeps == 0; sleeps = r.Stats().Sleeps { // the adder comes late: somebody finds the ring full
			require.NoError(t, ctx.Err(), "nobody sleeps on a full ring: %+v", r.Stats())
			time.Sleep(time.Millisecond)
		}
		begin := time.Now()
		total, heard, buf := uint64(0), [crowd]uint64{}, make([]byte, 16)
		for {
			n, err := q.Receive(ctx, buf)
			if over(err) {
				break
			}
			require.NoError(t, err)
			require.Equal(t, 16, n)
			index, number := binary.LittleEndian.Uint64(buf), binary.LittleEndian.Uint64(buf[8:])
			require.Equal(t, heard[index]+index+1, number, "producer %d", index)
			heard[index] = number
			total += index + 1
		}
		want := uint64(run.numbers) * crowd * (crowd + 1) / 2
		require.Equal(t, want, total)
		s := r.Stats()
		require.EqualValues(t, crowd*run.numbers, s.Sent)
		require.EqualValues(t, crowd*run.numbers, s.Received)
		require.EqualValues(t, crowd, s.ProducersEver)
		t.Logf("%d slots, %d numbers of each: %v, %d sleeps, %d wakes", run.slots, run.numbers, time.Since(begin), s.Sleeps, s.Wakes)
		require.NotZero(t, s.Wakes, "%+v", s)
		require.Zero(t, s.Redelivered+s.Lost+s.Skipped+s.ProducersDied, "%+v", s)
	}
	succeed(t, ps...)
}

func totalAdd(args []string) error {
	dir, runs := args[0], args[1:len(args)-1]
	index, err := strconv.Atoi(args[len(args)-1])
	if err != nil {
		return err
	}
	for i := 0; i < len(runs); i += 2 {
		numbers, err := strconv.Atoi(runs[i+1])
		if err != nil {
			return err
		}
		if err := addNumbers(dir, runs[i], numbers, index); err != nil {
			return fmt.Errorf("process %d, %s: %w", index, runs[i], err)
		}
	}
	return nil
}

func addNumbers(dir, name string, numbers, index int) (err error) {
	r, err := ring.Open(name, ring.WithDir(dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	p, err := r.NewProducer()
	if err != nil {
		return err
	}
	meet()
	ctx, cancel := patience()
	defer cancel()
	number := func(b []byte, i int) {
		binary.LittleEndian.PutUint64(b, uint64(index))
		binary.LittleEndian.PutUint64(b[8:], uint64((i+1)*(index+1)))
	}
	buf := make([]byte, 16)
	batch := make([][]byte, 0, 10)
	for i := 0; i < numbers; i++ {
		number(buf, i)
		switch index % 4 {
		case 0:
			err = p.Send(ctx, buf)
		case 1:
			if err = p.TrySend(buf); errors.Is(err, ring.ErrFull) {
				err = p.Send(ctx, buf)
			}
		case 2:
			var v ring.Reservation
			if v, err = p.Reserve(ctx, 16); err == nil {
				number(v.Bytes(), i)
				err = v.Commit()
			}
		case 3:
			if batch = append(batch, append([]byte(nil), buf...)); len(batch) == cap(batch) || i == numbers-1 {
				var n int
				if n, err = p.SendBatch(ctx, batch); err == nil && n != len(batch) {
					err = fmt.Errorf("%d of %d sent without an error", n, len(batch))
				}
				batch = batch[:0]
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

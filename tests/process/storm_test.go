//go:build linux

package process

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// The storm: producers and consumers are processes that are killed at any moment and replaced at once. Properties:
//
//   - every message whose Send was reported is received, or, under Drop, counted as lost with the consumer that held it;
//   - no message is received twice without being marked as redelivered;
//   - nothing is received that was not sent, and payloads are whole;
//   - positions are in the order of each producer's sends, and each consumer receives what is not redelivered in ascending positions;
//   - in the end the ring is empty, and the deaths are counted.

// stormFor is how long one storm lasts.
func stormFor() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("MILLRACE_STORM")); err == nil {
		return d
	}
	if testing.Short() {
		return time.Second
	}
	return 4 * time.Second
}

const (
	stormSlots = 32
	stormSlot  = 64
	stormBatch = 4 // messages that a consumer leases at most
	stormHead  = 16
)

// stormMessage makes message seq of a producer incarnation; its size and content follow from the two.
func stormMessage(incarnation, seq uint64) []byte {
	b := make([]byte, stormHead+seq*7%190) // up to four slots
	binary.LittleEndian.PutUint64(b, incarnation)
	binary.LittleEndian.PutUint64(b[8:], seq)
	for i := stormHead; i < len(b); i++ {
		b[i] = byte(seq + incarnation + uint64(i))
	}
	return b
}

// stopping returns a flag that is set when the parent sends a line.
func stopping() *atomic.Bool {
	stop := &atomic.Bool{}
	go func() {
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			os.Exit(3) // the parent is gone
		}
		stop.Store(true)
	}()
	return stop
}

func init() {
	children["stormProducer"] = stormProducer
	children["stormConsumer"] = stormConsumer
}

func stormProducer(args []string) error {
	var incarnation uint64
	if _, err := fmt.Sscan(args[1], &incarnation); err != nil {
		return err
	}
	stop := stopping()
	r, err := ring.Open("q", ring.WithDir(args[0]))
	if err != nil {
		return err
	}
	p, err := r.NewProducer()
	if err != nil {
		return err
	}
	fmt.Println("ready")
	random := rand.New(rand.NewPCG(incarnation, 0))
	for seq := uint64(0); !stop.Load(); {
		switch err := stormSend(p, stormMessage(incarnation, seq), random); {
		case err == nil:
			fmt.Println("s", incarnation, seq) // one write
			seq++
		case errors.Is(err, ring.ErrNoConsumers):
			time.Sleep(time.Millisecond) // the next consumer is on its way
		default:
			return err
		}
		if random.IntN(16) == 0 {
			time.Sleep(time.Duration(random.IntN(1500)) * time.Microsecond)
		}
	}
	if err = r.Close(); err != nil {
		return err
	}
	fmt.Println("done")
	return nil
}

// stormSend sends by one of the ways, now and then slowly, so that some die with an open reservation.
func stormSend(p *ring.Producer, m []byte, random *rand.Rand) error {
	if random.IntN(8) > 0 {
		return p.Send(context.Background(), m)
	}
	s, err := p.Reserve(context.Background(), len(m)+random.IntN(100))
	if err != nil {
		return err
	}
	half := copy(s.Bytes(), m[:len(m)/2])
	time.Sleep(time.Duration(random.IntN(1500)) * time.Microsecond)
	copy(s.Bytes()[half:], m[half:])
	return s.CommitN(len(m))
}

func stormConsumer(args []string) error {
	stop := stopping()
	var incarnation uint64
	if _, err := fmt.Sscan(args[1], &incarnation); err != nil {
		return err
	}
	r, err := ring.Open("q", ring.WithDir(args[0]))
	if err != nil {
		return err
	}
	c, err := r.NewConsumer()
	if err != nil {
		return err
	}
	fmt.Println("ready")
	random := rand.New(rand.NewPCG(incarnation, 1))
	for {
		ended := stop.Load() // before the call: an end of the stream that is seen later is the last one
		b, err := c.NextBatch(context.Background(), 1+random.IntN(stormBatch))
		switch {
		case err == io.EOF && ended:
			if err = r.Close(); err != nil {
				return err
			}
			fmt.Println("done")
			return nil
		case err == io.EOF: // all producers happen to be dead
			time.Sleep(time.Millisecond)
			continue
		case err != nil:
			return err
		}
		for i := range b.Len() {
			m := b.At(i)
			got := m.Bytes()
			if len(got) < stormHead {
				return fmt.Errorf("position %d: %d bytes", m.Position(), len(got))
			}
			producer, seq := binary.LittleEndian.Uint64(got), binary.LittleEndian.Uint64(got[8:])
			if string(got) != string(stormMessage(producer, seq)) {
				return fmt.Errorf("position %d: message %d of producer %d is torn: %x", m.Position(), seq, producer, got)
			}
			fmt.Println("r", producer, seq, m.Position(), m.Deliveries()) // one write
			if random.IntN(16) == 0 {
				time.Sleep(time.Duration(random.IntN(1500)) * time.Microsecond) // with the lease
			}
			if random.IntN(2) == 0 {
				if err = m.Release(); err != nil {
					return err
				}
			}
		}
		if err = b.Release(); err != nil && !errors.Is(err, ring.ErrMisuse) { // the last message may have been released by itself
			return err
		}
	}
}

// stormProc is one incarnation of a participant.
type stormProc struct {
	*proc.Proc
	role  ring.Role
	ready bool
}

// A stormName names a message.
type stormName struct{ incarnation, seq uint64 }

// reception is one delivery of a message.
type reception struct {
	position   uint64
	deliveries int
}

func TestStormOfKills(t *testing.T) {
	for _, k := range bothKinds {
		for _, policy := range []ring.DeathPolicy{ring.Redeliver, ring.Drop} {
			t.Run(k.String()+"/"+policy.String(), func(t *testing.T) { storm(t, k, policy) })
		}
	}
}

func storm(t *testing.T, k ring.Kind, policy ring.DeathPolicy) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r, dir := newRing(t, ring.Options{Kind: k, Slots: stormSlots, SlotSize: stormSlot, OnConsumerDeath: policy, Participants: 16})
	each := 1
	if k == ring.MPMC {
		each = 3
	}
	var all []*stormProc // every incarnation
	start := func(role ring.Role) *stormProc {
		task := map[ring.Role]string{ring.ProducerRole: "stormProducer", ring.ConsumerRole: "stormConsumer"}[role]
		p := &stormProc{Proc: proc.Start(t, []string{task, dir, fmt.Sprint(len(all))}), role: role}
		all = append(all, p)
		return p
	}
	var places []*stormProc // who lives
	for range each {
		places = append(places, start(ring.ProducerRole), start(ring.ConsumerRole))
	}
	kills := 0
	for end := time.Now().Add(stormFor()); time.Now().Before(end); {
		time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		i := random.IntN(len(places))
		victim := places[i]
		if random.IntN(4) > 0 && !victim.ready { // some die before they are registered
			victim.Want("ready")
			victim.ready = true
		}
		victim.Kill()
		kills++
		places[i] = start(victim.role)
	}
	for _, role := range []ring.Role{ring.ProducerRole, ring.ConsumerRole} { // consumers end when all producers have
		for _, p := range places {
			if p.role == role {
				p.Tell("stop")
			}
		}
		for _, p := range places {
			if p.role == role {
				ended := later(t, func() error { p.All(); return nil })
				if err := ended(); err == nil {
					p.Succeeds()
				}
			}
		}
	}

	sent := map[stormName]bool{}
	got := map[stormName][]reception{}
	sure, perhaps := map[ring.Role]uint64{}, map[ring.Role]uint64{} // deaths of the registered, and of those that may have been
	for n, p := range all {
		ready, done := false, false
		last, first := uint64(0), true
		for _, line := range p.All() {
			var name stormName
			var d reception
			switch kind, rest, _ := strings.Cut(line, " "); kind {
			case "ready":
				ready = true
			case "done":
				done = true
			case "s":
				_, err := fmt.Sscan(rest, &name.incarnation, &name.seq)
				require.NoError(t, err, line)
				sent[name] = true
			case "r":
				_, err := fmt.Sscan(rest, &name.incarnation, &name.seq, &d.position, &d.deliveries)
				require.NoError(t, err, line)
				got[name] = append(got[name], d)
				if d.deliveries == 1 {
					if !first && d.position <= last {
						t.Errorf("consumer %d received position %d after %d", n, d.position, last)
					}
					first, last = false, d.position
				}
			default:
				require.FailNow(t, "unexpected line", line)
			}
		}
		require.Empty(t, p.Errors(), "child %d", n)
		switch {
		case done:
		case ready:
			sure[p.role]++
		default:
			perhaps[p.role]++
		}
	}
	s := r.Stats()
	t.Logf("%d kills, %d messages reported, %d received, %+v", kills, len(sent), len(got), s)

	missing := uint64(0)
	for name := range sent {
		if got[name] == nil {
			missing++
			if policy == ring.Redeliver && missing < 10 {
				t.Errorf("message %d of producer %d was sent and never received", name.seq, name.incarnation)
			}
		}
	}
	redelivered, unmarked := 0, 0
	order := map[uint64][]stormName{}
	for name, ds := range got {
		order[name.incarnation] = append(order[name.incarnation], name)
		first := 0
		for _, d := range ds {
			if d.position != ds[0].position {
				t.Errorf("message %d of producer %d is at positions %d and %d", name.seq, name.incarnation, ds[0].position, d.position)
			}
			if d.deliveries == 1 {
				first++
			} else {
				redelivered++
			}
		}
		if first > 1 {
			unmarked++
			t.Errorf("message %d of producer %d was received %d times without a mark: %v", name.seq, name.incarnation, first, ds)
		}
	}
	for incarnation, names := range order {
		sort.Slice(names, func(i, j int) bool { return names[i].seq < names[j].seq })
		for i := 1; i < len(names); i++ {
			a, b := got[names[i-1]][0].position, got[names[i]][0].position
			if a >= b {
				t.Errorf("producer %d: message %d is at position %d, message %d at %d", incarnation, names[i-1].seq, a, names[i].seq, b)
			}
		}
	}
	require.Zero(t, unmarked)
	if kills > 40 {
		assert.NotZero(t, s.Skipped, "no producer died with a claim: the storm is too weak")
	}
	if policy == ring.Redeliver {
		require.Zero(t, missing)
		require.Zero(t, s.Lost)
		if kills > 40 {
			assert.NotZero(t, redelivered, "no consumer died with a lease: the storm is too weak")
		}
	} else {
		require.LessOrEqual(t, missing, s.Lost, "messages are missing that are not counted")
		require.LessOrEqual(t, s.Lost, stormBatch*(sure[ring.ConsumerRole]+perhaps[ring.ConsumerRole]))
		require.Zero(t, redelivered)
		if kills > 40 {
			assert.NotZero(t, s.Lost, "no consumer died with a lease: the storm is too weak")
		}
	}
	require.Zero(t, s.Used)
	require.Zero(t, s.ProducersLive+s.ConsumersLive)
	for role, died := range map[ring.Role]uint64{ring.ProducerRole: s.ProducersDied, ring.ConsumerRole: s.ConsumersDied} {
		require.GreaterOrEqual(t, died, sure[role], "%s", role)
		require.LessOrEqual(t, died, sure[role]+perhaps[role], "%s", role)
	}
	require.LessOrEqual(t, s.Skipped, s.ProducersDied)

	// What is left is as good as new: everybody who was killed is settled, and the whole ring can be used.
	p, c := producerOf(t, r), consumerOf(t, r)
	require.NoError(t, p.TrySend(make([]byte, r.MaxMessage())), "a drained ring takes the largest message")
	_, err := c.TryReceive(make([]byte, r.MaxMessage()))
	require.NoError(t, err)
}

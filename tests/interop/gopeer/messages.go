//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/interop/peer"
)

// stream is what the sending commands send: n messages of a stream from first on.
type stream struct {
	n, seed, first uint64
	sizes          peer.Sizes
}

func (a *args) sizes() peer.Sizes {
	w := a.word()
	s, err := peer.ParseSizes(w)
	if err != nil && a.err == nil {
		a.err = fmt.Errorf("%w: size %q", errProtocol, w)
	}
	return s
}

// stream reads N SIZE SEED FIRST.
func (a *args) stream() stream {
	return stream{n: a.number(), sizes: a.sizes(), seed: a.number(), first: a.number()}
}

// message makes message i of the stream.
func (s stream) message(i uint64) []byte {
	seq := s.first + i
	b := make([]byte, s.sizes.Of(seq))
	peer.Fill(b, s.seed, seq)
	return b
}

// sender reads the words of a sending command.
func (p *program) sender(a *args) (stream, error) {
	s := a.stream()
	if a.err == nil && p.producer == nil {
		a.err = fmt.Errorf("%w: no producer", errProtocol)
	}
	return s, a.err
}

// sendEach sends the messages one by one with f.
func (p *program) sendEach(a *args, f func(msg []byte) error) ([]string, error) {
	s, err := p.sender(a)
	if err != nil {
		return nil, err
	}
	for i := range s.n {
		if err := f(s.message(i)); err != nil {
			return nil, &partial{int(i), nil, err}
		}
	}
	return []string{fmt.Sprint(s.n)}, nil
}

func (p *program) sendOne(msg []byte) error {
	ctx, cancel := p.context()
	defer cancel()
	return p.producer.Send(ctx, msg)
}

func (p *program) send(a *args) ([]string, error) { return p.sendEach(a, p.sendOne) }
func (p *program) trySend(a *args) ([]string, error) {
	return p.sendEach(a, func(msg []byte) error { return p.producer.TrySend(msg) })
}

// sendAll sends the messages as a batch with f.
func (p *program) sendAll(a *args, f func(msgs [][]byte) (int, error)) ([]string, error) {
	s, err := p.sender(a)
	if err != nil {
		return nil, err
	}
	var msgs [][]byte
	for i := range s.n {
		msgs = append(msgs, s.message(i))
	}
	n, err := f(msgs)
	if err != nil {
		return nil, &partial{n, nil, err}
	}
	return []string{fmt.Sprint(n)}, nil
}

func (p *program) sendMany(msgs [][]byte) (int, error) {
	ctx, cancel := p.context()
	defer cancel()
	return p.producer.SendBatch(ctx, msgs)
}

func (p *program) sendBatch(a *args) ([]string, error) { return p.sendAll(a, p.sendMany) }
func (p *program) trySendBatch(a *args) ([]string, error) {
	return p.sendAll(a, func(msgs [][]byte) (int, error) { return p.producer.TrySendBatch(msgs) })
}

// reserveWith reads SIZE SEED SEQ, reserves with f and fills.
func (p *program) reserveWith(a *args, f func(n int) (ring.Reservation, error)) ([]string, error) {
	sizes, seed, seq := a.sizes(), a.number(), a.number()
	if a.err == nil && p.producer == nil {
		a.err = fmt.Errorf("%w: no producer", errProtocol)
	}
	if a.err != nil {
		return nil, a.err
	}
	r, err := f(int(sizes.Of(seq)))
	if err != nil {
		return nil, err
	}
	peer.Fill(r.Bytes(), seed, seq)
	p.reservation = r
	return nil, nil
}

func (p *program) reserveOne(n int) (ring.Reservation, error) {
	ctx, cancel := p.context()
	defer cancel()
	return p.producer.Reserve(ctx, n)
}

func (p *program) reserve(a *args) ([]string, error) { return p.reserveWith(a, p.reserveOne) }
func (p *program) tryReserve(a *args) ([]string, error) {
	return p.reserveWith(a, func(n int) (ring.Reservation, error) { return p.producer.TryReserve(n) })
}

func (p *program) commit(a *args) ([]string, error) {
	if !a.more() {
		return nil, p.reservation.Commit()
	}
	n := a.number()
	if a.err != nil {
		return nil, a.err
	}
	return nil, p.reservation.CommitN(int(n))
}

func (p *program) discard(*args) ([]string, error) { return nil, p.reservation.Discard() }

// item shows a message; errTorn when its bytes are not what they must be.
func item(position uint64, deliveries int, b []byte) (peer.Item, error) {
	seed, seq, whole := peer.Read(b)
	i := peer.Item{Position: position, Deliveries: uint64(deliveries), Size: uint64(len(b)), Seed: seed, Seq: seq}
	if !whole {
		return i, errTorn
	}
	return i, nil
}

// consuming says whether there is a consumer.
func (p *program) consuming() error {
	if p.consumer == nil {
		return fmt.Errorf("%w: no consumer", errProtocol)
	}
	return nil
}

// receiveEach receives messages one by one with f.
func (p *program) receiveEach(a *args, f func(buf []byte) (int, error)) ([]string, error) {
	n := a.number()
	if a.err != nil {
		return nil, a.err
	}
	if err := p.consuming(); err != nil {
		return nil, err
	}
	buf := make([]byte, p.ring.MaxMessage())
	var items []string
	for range n {
		size, err := f(buf)
		var it peer.Item
		if err == nil {
			last := p.consumer.Last()
			it, err = item(last.Position, last.Deliveries, buf[:size])
		}
		if err != nil {
			return nil, &partial{len(items), items, err}
		}
		items = append(items, it.String())
	}
	return append([]string{fmt.Sprint(n)}, items...), nil
}

func (p *program) receiveOne(buf []byte) (int, error) {
	ctx, cancel := p.context()
	defer cancel()
	return p.consumer.Receive(ctx, buf)
}

func (p *program) receive(a *args) ([]string, error) { return p.receiveEach(a, p.receiveOne) }
func (p *program) tryReceive(a *args) ([]string, error) {
	return p.receiveEach(a, func(buf []byte) (int, error) { return p.consumer.TryReceive(buf) })
}

func (p *program) last(*args) ([]string, error) {
	if err := p.consuming(); err != nil {
		return nil, err
	}
	d := p.consumer.Last()
	return []string{fmt.Sprint(d.Position), fmt.Sprint(d.Deliveries)}, nil
}

// summary is what drain says of one stream.
type summary struct{ count, low, high, sum uint64 }

// drain receives to the end of the stream.
func (p *program) drain(*args) ([]string, error) {
	if err := p.consuming(); err != nil {
		return nil, err
	}
	buf := make([]byte, p.ring.MaxMessage())
	count, again := 0, 0
	streams := map[uint64]*summary{}
	newest := map[uint64]uint64{} // the highest SEQ that was delivered for the first time, plus 1
	for {
		n, err := p.receiveOne(buf)
		if err == io.EOF {
			break
		}
		var it peer.Item
		if err == nil {
			last := p.consumer.Last()
			it, err = item(last.Position, last.Deliveries, buf[:n])
		}
		if err == nil && it.Deliveries == 1 {
			if it.Seq < newest[it.Seed] {
				err = errOrder
			}
			newest[it.Seed] = it.Seq + 1
		}
		if err != nil {
			return nil, &partial{count, nil, err}
		}
		count++
		if it.Deliveries > 1 {
			again++
		}
		s := streams[it.Seed]
		if s == nil {
			s = &summary{low: it.Seq}
			streams[it.Seed] = s
		}
		s.count++
		s.low, s.high, s.sum = min(s.low, it.Seq), max(s.high, it.Seq), s.sum+it.Seq
	}
	words := []string{fmt.Sprint(count), fmt.Sprint(again)}
	for _, seed := range slices.Sorted(maps.Keys(streams)) {
		s := streams[seed]
		words = append(words, fmt.Sprintf("%d:%d:%d:%d:%d", seed, s.count, s.low, s.high, s.sum))
	}
	return words, nil
}

// leased shows the messages of a new lease.
func (p *program) leased(lease []ring.Message, err error) ([]string, error) {
	if err != nil {
		return nil, err
	}
	p.lease, p.held = lease, 0
	items, err := p.items()
	if err != nil {
		return nil, err
	}
	return append([]string{fmt.Sprint(len(items))}, items...), nil
}

// items shows the messages of the lease that are held.
func (p *program) items() (items []string, err error) {
	for i := p.held; i < len(p.lease); i++ {
		m := p.lease[i]
		it, err := item(m.Position(), m.Deliveries(), m.Bytes())
		if err != nil {
			return nil, &partial{len(items), items, err}
		}
		items = append(items, it.String())
	}
	return items, nil
}

func single(m ring.Message, err error) ([]ring.Message, error) { return []ring.Message{m}, err }

func many(b ring.Batch, err error) (lease []ring.Message, _ error) {
	for i := range b.Len() {
		lease = append(lease, b.At(i))
	}
	return lease, err
}

func (p *program) next(*args) ([]string, error) {
	if err := p.consuming(); err != nil {
		return nil, err
	}
	ctx, cancel := p.context()
	defer cancel()
	return p.leased(single(p.consumer.Next(ctx)))
}

func (p *program) tryNext(*args) ([]string, error) {
	if err := p.consuming(); err != nil {
		return nil, err
	}
	return p.leased(single(p.consumer.TryNext()))
}

func (p *program) nextBatch(a *args) ([]string, error) {
	limit := a.number()
	if err := p.consuming(); err != nil || a.err != nil {
		return nil, err
	}
	ctx, cancel := p.context()
	defer cancel()
	return p.leased(many(p.consumer.NextBatch(ctx, int(limit))))
}

func (p *program) tryNextBatch(a *args) ([]string, error) {
	limit := a.number()
	if err := p.consuming(); err != nil || a.err != nil {
		return nil, err
	}
	return p.leased(many(p.consumer.TryNextBatch(int(limit))))
}

// index reads [I].
func (p *program) index(a *args, otherwise int) (int, error) {
	if len(p.lease) == 0 {
		return 0, ring.ErrMisuse
	}
	i := otherwise
	if a.more() {
		n, err := strconv.Atoi(a.word())
		if err != nil {
			return 0, errProtocol
		}
		i = n
	}
	if i < 0 || i >= len(p.lease) {
		return 0, ring.ErrMisuse
	}
	return i, nil
}

func (p *program) release(a *args) ([]string, error) {
	i, err := p.index(a, len(p.lease)-1)
	if err != nil {
		return nil, err
	}
	if _, err := p.items(); err != nil { // they must not have changed while they were held
		return nil, err
	}
	if err = p.lease[i].Release(); err == nil {
		p.held = i + 1
	}
	return nil, err
}

func (p *program) giveBack(a *args) ([]string, error) {
	i, err := p.index(a, min(p.held, len(p.lease)-1))
	if err != nil {
		return nil, err
	}
	if err = p.lease[i].Return(); err == nil {
		p.held = len(p.lease)
	}
	return nil, err
}

//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/interop/peer"
)

// Commands for tests that kill: they note what they have done where it outlives them.

const batchSize = 8

// progress maps a file of 8 bytes.
func progress(name string) (*atomic.Uint64, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mem, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*atomic.Uint64)(unsafe.Pointer(&mem[0])), nil
}

func (p *program) pour(a *args) ([]string, error) {
	mode := a.word()
	s := stream{sizes: a.sizes(), seed: a.number(), first: a.number()}
	s.n = a.number()
	file := a.word()
	if a.err == nil && p.producer == nil {
		a.err = fmt.Errorf("%w: no producer", errProtocol)
	}
	if a.err != nil {
		return nil, a.err
	}
	how, ok := map[string]func(s stream, i uint64) (int, error){
		"send":    func(s stream, i uint64) (int, error) { return one(p.sendOne(s.message(i))) },
		"try":     p.spinSend,
		"batch":   p.pourBatch,
		"reserve": p.pourReserve,
	}[mode]
	if !ok {
		return nil, fmt.Errorf("%w: pour %s", errProtocol, mode)
	}
	done, err := progress(file)
	if err != nil {
		return nil, err
	}
	a.then = func() {
		sent := uint64(0)
		for s.n == 0 || sent < s.n {
			n, err := how(s, sent)
			sent += uint64(n)
			done.Store(sent)
			if err != nil {
				p.end(err, sent)
				return
			}
		}
		p.end(nil, sent)
	}
	return nil, nil
}

// end prints the last line of pour and swallow.
func (p *program) end(err error, count uint64) { p.say(fmt.Sprintf("end %s %d", code(err), count)) }

// one is the count of messages of a call that moves one.
func one(err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return 1, nil
}

func (p *program) spinSend(s stream, i uint64) (int, error) {
	for {
		if err := p.producer.TrySend(s.message(i)); err != ring.ErrFull {
			return one(err)
		}
	}
}

func (p *program) pourBatch(s stream, i uint64) (int, error) {
	var msgs [][]byte
	for k := i; k < i+batchSize && (s.n == 0 || k < s.n); k++ {
		msgs = append(msgs, s.message(k))
	}
	return p.sendMany(msgs)
}

func (p *program) pourReserve(s stream, i uint64) (int, error) {
	seq := s.first + i
	r, err := p.reserveOne(int(s.sizes.Of(seq)))
	if err != nil {
		return 0, err
	}
	peer.Fill(r.Bytes(), s.seed, seq)
	return one(r.Commit())
}

func (p *program) swallow(a *args) ([]string, error) {
	mode, name := a.word(), a.word()
	if a.err != nil {
		return nil, a.err
	}
	if err := p.consuming(); err != nil {
		return nil, err
	}
	how, ok := map[string]func(log *os.File, buf []byte) (int, error){
		"receive": func(log *os.File, buf []byte) (int, error) { return p.swallowCopy(log, buf, p.receiveOne) },
		"try":     func(log *os.File, buf []byte) (int, error) { return p.swallowCopy(log, buf, p.spinReceive) },
		"next":    func(log *os.File, _ []byte) (int, error) { return p.swallowLease(log, 1) },
		"batch":   func(log *os.File, _ []byte) (int, error) { return p.swallowLease(log, batchSize) },
	}[mode]
	if !ok {
		return nil, fmt.Errorf("%w: swallow %s", errProtocol, mode)
	}
	log, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	a.then = func() {
		defer log.Close()
		buf := make([]byte, p.ring.MaxMessage())
		received := uint64(0)
		for {
			n, err := how(log, buf)
			received += uint64(n)
			if err != nil {
				p.end(err, received)
				return
			}
		}
	}
	return nil, nil
}

// record notes a message that was received.
func record(log *os.File, it peer.Item) error {
	var b []byte
	for _, v := range []uint64{it.Seq, it.Seed, it.Deliveries} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	_, err := log.Write(b)
	return err
}

func (p *program) spinReceive(buf []byte) (int, error) {
	for {
		if n, err := p.consumer.TryReceive(buf); err != ring.ErrEmpty {
			return n, err
		}
	}
}

func (p *program) swallowCopy(log *os.File, buf []byte, f func([]byte) (int, error)) (int, error) {
	n, err := f(buf)
	if err != nil {
		return 0, err
	}
	last := p.consumer.Last()
	it, err := item(last.Position, last.Deliveries, buf[:n])
	if err != nil {
		return 0, err
	}
	return one(record(log, it))
}

func (p *program) swallowLease(log *os.File, limit int) (int, error) {
	ctx, cancel := p.context()
	defer cancel()
	b, err := p.consumer.NextBatch(ctx, limit)
	if err != nil {
		return 0, err
	}
	for i := range b.Len() {
		m := b.At(i)
		it, err := item(m.Position(), m.Deliveries(), m.Bytes())
		if err == nil {
			err = record(log, it)
		}
		if err != nil {
			return i, err
		}
	}
	return b.Len(), b.Release()
}

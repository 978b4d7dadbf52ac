package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

// sendBatch is how many messages a producer commits at once, and so how many a kill can make its successor resend.
const sendBatch = 16

// What a producer process inherits, by descriptor.
const (
	fdManifest = 3 + iota
	fdProgress
	fdOrders
)

// producer is one process in the life of one producer.
type producer struct {
	Worker
	files    []file
	lane     lane
	progress progress
	orders   orders
	out      *ring.Producer

	open   *os.File // the file being read
	openOf int

	next uint64 // number of the next message
	buf  [sendBatch][messageSize]byte
	msgs [][]byte
}

// produce streams the producer's files from where its progress record says until the orders say stop.
func produce(ctx context.Context, w Worker) (err error) {
	p := &producer{Worker: w, openOf: -1}
	p.progress = progress{os.NewFile(fdProgress, "progress")}
	p.orders = orders{os.NewFile(fdOrders, "orders")}
	manifest := os.NewFile(fdManifest, "manifest")
	if p.files, err = readManifest(io.NewSectionReader(manifest, 0, 1<<62)); err != nil {
		return err
	}
	p.lane = share(p.files, w.Producers)[w.Index]
	if p.next, err = p.progress.load(); err != nil {
		return err
	}
	r, err := ring.Open(w.Ring, ring.WithDir(w.Dir))
	if err != nil {
		return err
	}
	defer r.Close()
	if p.out, err = r.NewProducer(ring.WaitForConsumers()); err != nil {
		return err
	}
	if p.lane.pass > 0 { // otherwise there are fewer files than producers
		if err = p.stream(ctx); err != nil {
			return err
		}
	}
	return p.out.Close()
}

// stream takes turns with its predecessors: one process reserves and reads the file into the ring itself, the next one sends
// batches of copies.
func (p *producer) stream(ctx context.Context) error {
	batches := (p.Index+p.Incarnation)%2 == 1
	for {
		h, more, err := p.locate(p.next)
		if err != nil || !more {
			return err
		}
		if batches {
			err = p.sendBatch(ctx)
		} else {
			err = p.reserve(ctx, h)
		}
		if err != nil {
			return err
		}
		if err := p.progress.store(p.next); err != nil {
			return err
		}
	}
}

// locate makes the header of message number n. more is false when a file begins there and the orders are to stop.
func (p *producer) locate(n uint64) (h header, more bool, err error) {
	pass, k, seq := p.lane.locate(n)
	if seq == 0 {
		if more, err := p.orders.more(pass); err != nil || !more {
			return header{}, false, err
		}
	}
	i := p.lane.files[k]
	return header{
		file: uint32(i), pass: uint32(pass), seq: uint32(seq), total: uint32(p.files[i].chunks()),
		producer: uint32(p.Index), incarnation: uint32(p.Incarnation), offset: seq * chunkSize,
	}, true, nil
}

// reserve sends one message without a copy: the file is read into the ring.
func (p *producer) reserve(ctx context.Context, h header) error {
	n := p.files[h.file].chunk(uint64(h.seq))
	r, err := p.out.Reserve(ctx, headerSize+n)
	if err != nil {
		return err
	}
	b := r.Bytes()
	if err := p.read(b[headerSize:], &h); err != nil {
		return err // Close discards the reservation
	}
	h.sent = time.Now().UnixNano()
	h.put(b)
	if err := r.Commit(); err != nil {
		return err
	}
	p.next++
	return nil
}

// sendBatch sends the next messages, of several files if they are small, by one call.
func (p *producer) sendBatch(ctx context.Context) error {
	p.msgs = p.msgs[:0]
	var heads [sendBatch]header
	for i := range p.buf {
		h, more, err := p.locate(p.next + uint64(i))
		if err != nil {
			return err
		}
		if !more {
			break
		}
		msg := p.buf[i][:headerSize+p.files[h.file].chunk(uint64(h.seq))]
		if err := p.read(msg[headerSize:], &h); err != nil {
			return err
		}
		heads[i] = h
		p.msgs = append(p.msgs, msg)
	}
	now := time.Now().UnixNano()
	for i, msg := range p.msgs {
		heads[i].sent = now
		heads[i].put(msg)
	}
	n, err := p.out.SendBatch(ctx, p.msgs)
	p.next += uint64(n)
	return err
}

// read fills b with the chunk that h names.
func (p *producer) read(b []byte, h *header) error {
	if p.openOf != int(h.file) {
		if p.open != nil {
			_ = p.open.Close()
		}
		f, err := os.Open(p.files[h.file].path)
		if err != nil {
			return err
		}
		p.open, p.openOf = f, int(h.file)
	}
	if n, err := p.open.ReadAt(b, int64(h.offset)); n < len(b) {
		return fmt.Errorf("%s changed while it was streamed: %d of %d bytes at %d (%v)", p.open.Name(), n, len(b), h.offset, err)
	}
	return nil
}

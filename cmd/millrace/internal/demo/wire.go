package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// Everything that processes of the demo tell each other: messages through the ring, reports through pipes, progress and
// orders through small files that parent and children have open.

// messageSize is the largest message: four slots. chunkSize of it are a piece of a file.
const (
	messageSize = 4 * slotSize
	chunkSize   = messageSize - headerSize
)

// header stands at the front of every message.
type header struct {
	file        uint32 // stream: which file
	pass        uint32 // and which round through all files
	seq         uint32 // chunk of the file
	total       uint32 // chunks of the file
	producer    uint32
	incarnation uint32 // 0 for the first process of a producer, 1 for the one after the first kill, …
	offset      uint64 // of the chunk in the file
	sent        int64  // nanoseconds since 1970
}

const headerSize = 40

func (h *header) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], h.file)
	le.PutUint32(b[4:], h.pass)
	le.PutUint32(b[8:], h.seq)
	le.PutUint32(b[12:], h.total)
	le.PutUint32(b[16:], h.producer)
	le.PutUint32(b[20:], h.incarnation)
	le.PutUint64(b[24:], h.offset)
	le.PutUint64(b[32:], uint64(h.sent))
}

func (h *header) get(b []byte) {
	le := binary.LittleEndian
	h.file = le.Uint32(b[0:])
	h.pass = le.Uint32(b[4:])
	h.seq = le.Uint32(b[8:])
	h.total = le.Uint32(b[12:])
	h.producer = le.Uint32(b[16:])
	h.incarnation = le.Uint32(b[20:])
	h.offset = le.Uint64(b[24:])
	h.sent = int64(le.Uint64(b[32:]))
}

// report is what a consumer tells the parent about one delivery, before it releases the message.
type report struct {
	header
	position   uint64
	sum        uint64 // xxhash64 of the chunk
	received   int64  // nanoseconds since 1970
	length     uint32 // bytes of the chunk
	deliveries uint32
}

const reportSize = headerSize + 32

// append adds the report to b.
func (r *report) append(b []byte) []byte {
	var x [reportSize]byte
	r.header.put(x[:])
	le := binary.LittleEndian
	le.PutUint64(x[headerSize:], r.position)
	le.PutUint64(x[headerSize+8:], r.sum)
	le.PutUint64(x[headerSize+16:], uint64(r.received))
	le.PutUint32(x[headerSize+24:], r.length)
	le.PutUint32(x[headerSize+28:], r.deliveries)
	return append(b, x[:]...)
}

func (r *report) get(b []byte) {
	r.header.get(b)
	le := binary.LittleEndian
	r.position = le.Uint64(b[headerSize:])
	r.sum = le.Uint64(b[headerSize+8:])
	r.received = int64(le.Uint64(b[headerSize+16:]))
	r.length = le.Uint32(b[headerSize+24:])
	r.deliveries = le.Uint32(b[headerSize+28:])
}

// progress is how far a producer has come, kept in a file that outlives it: the number of messages of its own sequence that
// it committed and recorded. It is written behind each commit; a kill between the two is what makes its successor resend.
type progress struct{ file *os.File }

func (p progress) store(n uint64) error {
	var b [16]byte // the number and its complement, to tell a record from anything else
	binary.LittleEndian.PutUint64(b[:], n)
	binary.LittleEndian.PutUint64(b[8:], ^n)
	_, err := p.file.WriteAt(b[:], 0)
	return err
}

func (p progress) load() (uint64, error) {
	var b [16]byte
	if _, err := p.file.ReadAt(b[:], 0); err != nil {
		return 0, fmt.Errorf("read the progress record: %w", err)
	}
	n := binary.LittleEndian.Uint64(b[:])
	if binary.LittleEndian.Uint64(b[8:]) != ^n {
		return 0, errors.New("the progress record is damaged")
	}
	return n, nil
}

// orders is what the parent wants of the producers, looked at by them before each file: how many passes to make, and
// whether to end before the next file.
type orders struct{ file *os.File }

const endless = ^uint64(0)

func (o orders) store(passes uint64, stop bool) error {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], passes)
	if stop {
		b[8] = 1
	}
	_, err := o.file.WriteAt(b[:], 0)
	return err
}

// more says whether pass is to be made, or gone on with.
func (o orders) more(pass uint64) (bool, error) {
	var b [16]byte
	if _, err := o.file.ReadAt(b[:], 0); err != nil {
		return false, fmt.Errorf("read the orders: %w", err)
	}
	return b[8] == 0 && pass < binary.LittleEndian.Uint64(b[:]), nil
}

//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// A message carries its number, its length, and bytes that follow from both, so that a torn one, or one of the wrong length, is seen. The number is
// incarnation << 32 | sequence.
const leastMessage = 12

func encode(b []byte, number uint64) {
	binary.LittleEndian.PutUint64(b, number)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)))
	for i := leastMessage; i < len(b); i++ {
		b[i] = pattern(number, i)
	}
}

func pattern(number uint64, i int) byte {
	return byte(number*0x9E3779B97F4A7C15>>(i%8*8)) + byte(i*7)
}

func decode(b []byte) (number uint64, err error) {
	if len(b) < leastMessage || binary.LittleEndian.Uint32(b[8:]) != uint32(len(b)) {
		return 0, fmt.Errorf("torn message of %d bytes: %x", len(b), b[:min(len(b), 32)])
	}
	number = binary.LittleEndian.Uint64(b)
	for i := leastMessage; i < len(b); i++ {
		if b[i] != pattern(number, i) {
			return 0, fmt.Errorf("torn message %x of %d bytes: byte %d is %#x, not %#x", number, len(b), i, b[i], pattern(number, i))
		}
	}
	return number, nil
}

// record is a plain type for typed rings; its bytes are those of a message.
type record struct {
	Number uint64
	Length uint32
	Rest   [36]uint8
}

const recordSize = 48

// A report is what a child tells the parent about its work, before and after each step. What was written before a kill is in the pipe.
type report struct {
	kind       kind
	n          uint32 // messages that it is about
	deliveries uint32
	number     uint64
	position   uint64
}

type kind uint32

const (
	sayJoined    kind = iota + 1 // registered
	sayTrying                    // n messages from number on are about to be sent
	saySent                      // the first n of those are sent, the others are not
	sayLeasing                   // up to n messages are about to be leased
	sayCopying                   // up to n messages are about to be copied out, into the memory that the parent can read
	sayNothing                   // none came
	sayGot                       // this one was copied out
	sayHeld                      // this one is leased
	sayReleasing                 // the first n of those held are about to be released
	sayReleased
	sayReturning // all that are held are about to be returned
	sayReturned
	sayClosing // the handle is about to be closed, with what is held
	sayLeft    // the session has ended properly
)

const reportSize = 28

func (r *report) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(r.kind))
	b = binary.LittleEndian.AppendUint32(b, r.n)
	b = binary.LittleEndian.AppendUint32(b, r.deliveries)
	b = binary.LittleEndian.AppendUint64(b, r.number)
	return binary.LittleEndian.AppendUint64(b, r.position)
}

func (r *report) get(b []byte) {
	r.kind = kind(binary.LittleEndian.Uint32(b))
	r.n = binary.LittleEndian.Uint32(b[4:])
	r.deliveries = binary.LittleEndian.Uint32(b[8:])
	r.number = binary.LittleEndian.Uint64(b[12:])
	r.position = binary.LittleEndian.Uint64(b[20:])
}

// reporter writes reports, those of one step with one write that a pipe takes whole.
type reporter struct {
	to  io.Writer
	buf []byte
}

func (o *reporter) add(r report) { o.buf = r.append(o.buf) }

func (o *reporter) say(r report) {
	o.add(r)
	o.flush()
}

func (o *reporter) flush() {
	if _, err := o.to.Write(o.buf); err != nil {
		os.Exit(3) // the parent is gone
	}
	o.buf = o.buf[:0]
}

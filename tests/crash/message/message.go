// Package message makes the messages of the crash tests. Each carries its number and its length, and bytes that follow from both, so that a torn one
// is seen.
package message

import (
	"encoding/binary"
	"fmt"
)

// Least is the size of the smallest message but those of one Word, whose last byte follows from the number.
const Least, Word = 16, 8

func check(seq uint64) uint64 { return seq*31&0x7F | 0x80 }

// Encode makes message seq of n bytes, or of Least if that is more. That of a Word has a number of 56 bits.
func Encode(seq uint64, n int) []byte {
	if n == Word {
		return binary.LittleEndian.AppendUint64(nil, seq|check(seq)<<56)
	}
	b := make([]byte, max(n, Least))
	binary.LittleEndian.PutUint64(b, seq)
	binary.LittleEndian.PutUint64(b[8:], uint64(len(b)))
	for i := Least; i < len(b); i++ {
		b[i] = byte(seq*31 + uint64(i)*7)
	}
	return b
}

// Decode returns the number of a message, or says how it is torn.
func Decode(b []byte) (uint64, error) {
	if len(b) == Word {
		w := binary.LittleEndian.Uint64(b)
		if seq := w << 8 >> 8; w>>56 == check(seq) {
			return seq, nil
		}
	}
	if len(b) < Least || binary.LittleEndian.Uint64(b[8:]) != uint64(len(b)) {
		return 0, fmt.Errorf("torn message of %d bytes: %x", len(b), b[:min(len(b), 32)])
	}
	seq := binary.LittleEndian.Uint64(b)
	for i := Least; i < len(b); i++ {
		if b[i] != byte(seq*31+uint64(i)*7) {
			return 0, fmt.Errorf("torn message %d: byte %d of %d is %#x", seq, i, len(b), b[i])
		}
	}
	return seq, nil
}

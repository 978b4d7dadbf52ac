// Package message makes the messages of the crash tests. Each carries its number and its length, and bytes that follow from both, so that a torn one
// is seen.
package message

import (
	"encoding/binary"
	"fmt"
)

// Least is the size of the smallest message.
const Least = 16

// Encode makes message seq of n bytes, or of Least if that is more.
func Encode(seq uint64, n int) []byte {
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

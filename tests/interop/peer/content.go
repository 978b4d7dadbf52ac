// Package peer is what a test needs to drive the peer programs of tests/interop/PEER.md, and what the Go peer shares with it.
package peer

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// head is the part of a message that says which one it is: SEQ and SEED.
const head = 16

// Fill writes message seq of stream seed over b.
func Fill(b []byte, seed, seq uint64) {
	var word [8]byte
	x := (seed ^ seq*0x9E3779B97F4A7C15) | 1
	for i := 0; i < len(b); i += 8 {
		switch i {
		case 0:
			binary.LittleEndian.PutUint64(word[:], seq)
		case 8:
			binary.LittleEndian.PutUint64(word[:], seed)
		default:
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			binary.LittleEndian.PutUint64(word[:], x)
		}
		copy(b[i:], word[:])
	}
}

// Read tells which message b is, and whether the rest of it is whole.
func Read(b []byte) (seed, seq uint64, whole bool) {
	var h [head]byte
	copy(h[:], b)
	seq, seed = binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:])
	if len(b) <= head {
		return seed, seq, true
	}
	want := make([]byte, len(b))
	Fill(want, seed, seq)
	return seed, seq, string(want) == string(b)
}

// Sizes is the SIZE of a command: From..To.
type Sizes struct{ From, To uint64 }

// ParseSizes reads a SIZE.
func ParseSizes(s string) (Sizes, error) {
	a, b, ranged := strings.Cut(s, "..")
	if !ranged {
		b = a
	}
	from, err := strconv.ParseUint(a, 10, 64)
	if err != nil {
		return Sizes{}, err
	}
	to, err := strconv.ParseUint(b, 10, 64)
	if err != nil {
		return Sizes{}, err
	}
	if to < from {
		return Sizes{}, fmt.Errorf("size %s", s)
	}
	return Sizes{from, to}, nil
}

// Of returns the size of message seq.
func (s Sizes) Of(seq uint64) uint64 { return s.From + seq*7919%(s.To-s.From+1) }

// Item is a received message as a peer shows it.
type Item struct {
	Position, Deliveries, Size, Seed, Seq uint64
}

func (i Item) String() string {
	return fmt.Sprintf("%d:%d:%d:%d:%d", i.Position, i.Deliveries, i.Size, i.Seed, i.Seq)
}

// ParseItem reads an ITEM.
func ParseItem(s string) (Item, error) {
	f := strings.Split(s, ":")
	if len(f) != 5 {
		return Item{}, fmt.Errorf("item %q", s)
	}
	var n [5]uint64
	for i := range f {
		v, err := strconv.ParseUint(f[i], 10, 64)
		if err != nil {
			return Item{}, fmt.Errorf("item %q: %w", s, err)
		}
		n[i] = v
	}
	return Item{n[0], n[1], n[2], n[3], n[4]}, nil
}

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cd1900cf/millrace/ring"
)

// framing says where a message ends in a stream of bytes.
type framing struct {
	delim  []byte // what stands behind each message
	prefix bool   // instead, its length stands before it: u32, little endian
	whole  bool   // a file is one message; nothing stands between
}

// framingFlags are the flags of send and recv.
type framingFlags struct {
	nul, prefix, whole bool
	delim              string
}

func (ff *framingFlags) register(f *flags) {
	f.toggle(&ff.nul, "0", "NUL behind each message")
	f.text(&ff.delim, "delim", "S", `S behind each message; \n \t \r \0 \xHH are understood`)
	f.toggle(&ff.prefix, "length-prefix", "length before each message: u32, little endian")
	f.toggle(&ff.whole, "file", "one file, one message")
}

// framing returns what the flags say: lines when they say nothing.
func (ff *framingFlags) framing(f *flags) (framing, error) {
	n := 0
	for _, name := range []string{"0", "delim", "length-prefix", "file"} {
		if f.given(name) {
			n++
		}
	}
	if n > 1 {
		return framing{}, usagef("-0, --delim, --length-prefix and --file exclude each other")
	}
	switch {
	case ff.nul:
		return framing{delim: []byte{0}}, nil
	case ff.prefix:
		return framing{prefix: true}, nil
	case ff.whole:
		return framing{whole: true}, nil
	case f.given("delim"):
		d, err := parseEscapes(ff.delim)
		if err != nil {
			return framing{}, usagef("--delim %q: %v", ff.delim, err)
		}
		if d == "" {
			return framing{}, usagef("--delim wants at least one byte")
		}
		return framing{delim: []byte(d)}, nil
	}
	return framing{delim: []byte("\n")}, nil
}

// append adds a message to b the way it is written to a stream.
func (fr framing) append(b, msg []byte) []byte {
	if fr.prefix {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(msg)))
	}
	return append(append(b, msg...), fr.delim...)
}

// splitter cuts a stream into messages.
type splitter struct {
	framing
	r    io.Reader
	most int // bytes of the largest message

	buf  []byte
	n    int // bytes in buf
	from int // of those, handed out
	dry  int // of the others, searched for a delimiter in vain
	eof  bool
	msgs [][]byte
	seen int // messages handed out
}

// splitBuffer is how much is read at once.
const splitBuffer = 256 << 10

func newSplitter(fr framing, r io.Reader, most int) *splitter {
	return &splitter{framing: fr, r: r, most: most, buf: make([]byte, splitBuffer)}
}

// next returns the messages that are complete after at least one read; at the end io.EOF. It never waits for a second
// message. With an error, the messages before it are returned as well. They are valid until the next call.
func (s *splitter) next() ([][]byte, error) {
	for {
		if s.eof {
			return nil, io.EOF
		}
		if err := s.read(); err != nil {
			return nil, err
		}
		if s.whole {
			if s.eof {
				return [][]byte{s.buf[:s.n]}, nil
			}
			if err := s.fits(s.n); err != nil {
				return nil, err
			}
			continue
		}
		s.msgs = s.msgs[:0]
		for {
			msg, size, err := s.cut(s.buf[s.from:s.n])
			if err != nil {
				return s.msgs, err
			}
			if size == 0 {
				break
			}
			s.from += size
			s.seen++
			s.msgs = append(s.msgs, msg)
		}
		if len(s.msgs) > 0 {
			return s.msgs, nil
		}
	}
}

// read moves what is left to the front and reads more, once.
func (s *splitter) read() error {
	s.n = copy(s.buf, s.buf[s.from:s.n])
	s.from = 0
	if s.n == len(s.buf) {
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	n, err := s.r.Read(s.buf[s.n:])
	s.n += n
	if err == io.EOF {
		s.eof = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the input: %w", err)
	}
	return nil
}

// cut returns the first message of b and how many bytes it takes with its frame; 0 when it is not complete.
func (s *splitter) cut(b []byte) (msg []byte, size int, err error) {
	if s.prefix {
		return s.cutPrefixed(b)
	}
	start := max(0, s.dry-len(s.delim)+1) // a delimiter may have been cut
	end := bytes.Index(b[start:], s.delim)
	s.dry = 0
	switch {
	case end >= 0:
		end += start
		return b[:end], end + len(s.delim), s.fits(end)
	case s.eof && len(b) > 0:
		return b, len(b), s.fits(len(b))
	}
	s.dry = len(b)
	return nil, 0, s.fits(len(b) - len(s.delim))
}

func (s *splitter) cutPrefixed(b []byte) (msg []byte, size int, err error) {
	const head = 4
	if len(b) >= head {
		n := int(binary.LittleEndian.Uint32(b))
		if err := s.fits(n); err != nil {
			return nil, 0, err
		}
		if len(b) >= head+n {
			return b[head : head+n], head + n, nil
		}
	}
	if s.eof && len(b) > 0 {
		return nil, 0, fmt.Errorf("the input ends within message %d: %d bytes of it are there, length included", s.seen+1, len(b))
	}
	return nil, 0, nil
}

// fits checks the size of a message.
func (s *splitter) fits(n int) error {
	if n <= s.most {
		return nil
	}
	return fmt.Errorf("message %d of the input: %w", s.seen+1, &ring.SizeError{Got: n, Max: s.most})
}

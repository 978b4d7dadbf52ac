package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
)

func TestSizes(t *testing.T) {
	for s, want := range map[string]int{"0": 0, "4096": 4096, "64K": 65536, "64k": 65536, "1M": 1 << 20, "4KiB": 4096, "2MiB": 2 << 20, "1.5K": 1536, "1GiB": 1 << 30,
		"64KB": 64000, "12B": 12} {
		n, err := parseSize(s)
		require.NoError(t, err, s)
		require.Equal(t, want, n, s)
	}
	for _, s := range []string{"", "K", "-1", "1.3", "1e30", "1X", "0x10Q", "NaN", "Inf", "999999999999G"} {
		_, err := parseSize(s)
		require.Error(t, err, s)
	}
}

func TestEscapes(t *testing.T) {
	got, err := parseEscapes(`a\n\t\r\0\\\x41b`)
	require.NoError(t, err)
	require.Equal(t, "a\n\t\r\x00\\Ab", got)
	for _, s := range []string{`\`, `\q`, `\x`, `\x4`, `\xzz`} {
		_, err := parseEscapes(s)
		require.Error(t, err, s)
	}
}

func TestFlagsAndOperandsInAnyOrder(t *testing.T) {
	for _, args := range [][]string{
		{"q", "-n", "3", "--wait", "f"}, {"-n", "3", "q", "f", "--wait"}, {"--wait", "--count=3", "q", "--", "f"}, {"--wait", "-n=3", "--", "q", "f"},
	} {
		f := newFlags(sendCommand)
		var n int
		var wait bool
		f.number(&n, "n count", "")
		f.toggle(&wait, "wait", "")
		operands, err := f.parse(args)
		require.NoError(t, err)
		require.Equal(t, []string{"q", "f"}, operands)
		require.Equal(t, 3, n)
		require.True(t, wait)
	}
}

// Whatever pieces the input comes in, the messages are the same.
func TestSplitterDoesNotDependOnReads(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), 60_000) // more than one buffer
	for _, fr := range []framing{{delim: []byte("\n")}, {delim: []byte("::;")}, {prefix: true}} {
		want := [][]byte{[]byte("a"), {}, []byte("b::c"), long, []byte("z")}
		var in []byte
		for _, m := range want {
			in = fr.append(in, m)
		}
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(in), "bytewise": iotest.OneByteReader(bytes.NewReader(in)), "with eof": iotest.DataErrReader(bytes.NewReader(in)),
		} {
			s := newSplitter(fr, r, len(long))
			var got [][]byte
			for {
				msgs, err := s.next()
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
				for _, m := range msgs {
					got = append(got, append([]byte{}, m...))
				}
			}
			require.Equal(t, want, got, "%v %s", fr, name)
		}
	}
}

func TestSplitterRefusesWhatIsTooLarge(t *testing.T) {
	for _, fr := range []framing{{delim: []byte("\n")}, {prefix: true}, {whole: true}} {
		var size *ring.SizeError
		s := newSplitter(fr, bytes.NewReader(fr.append(nil, make([]byte, 11))), 10)
		_, err := s.next()
		require.ErrorAs(t, err, &size)
		require.Equal(t, 10, size.Max)
	}
}

func TestExitCodes(t *testing.T) {
	for code, errs := range map[int][]error{
		exitDone:        {nil},
		exitFailure:     {io.ErrUnexpectedEOF, ring.ErrSegmentLost, ring.ErrInUse, ring.ErrMismatch, fs.ErrExist, &ring.SizeError{}},
		exitUsage:       {usagef("x"), &ring.OptionError{}},
		exitNotFound:    {fs.ErrNotExist},
		exitBlocked:     {ring.ErrFull, ring.ErrEmpty},
		exitFormat:      {&ring.FormatError{Err: ring.ErrVersion}},
		exitPeer:        {ring.ErrRoleTaken, &ring.PeerError{Err: io.EOF}, ring.ErrNoConsumers},
		exitMachine:     {fs.ErrPermission, syscall.ENOSPC, syscall.EMFILE, syscall.EACCES, ring.ErrUnsupported},
		exitInterrupted: {errInterrupted},
	} {
		for _, err := range errs {
			require.Equal(t, code, exitCode(err), "%v", err)
			if err != nil {
				require.Equal(t, code, exitCode(fmt.Errorf("wrapped: %w", err)), "%v", err)
			}
		}
	}
}

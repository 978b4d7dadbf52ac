//go:build linux

package atomicx_test

import (
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/atomicx"
)

// TakeLines stays within its bytes and changes nothing. Properties: any place and length, up to the very end of what is mapped; it writes, to every page of a long message.
func TestTakeLines(t *testing.T) {
	page := syscall.Getpagesize()
	mem, err := syscall.Mmap(-1, 0, 4*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Munmap(mem)) }()
	require.NoError(t, syscall.Mprotect(mem[3*page:], syscall.PROT_NONE))
	room := mem[:3*page]
	for i := range room {
		room[i] = byte(i*7 + i>>8)
	}
	was := string(room)
	take := func(from, n int) { atomicx.TakeLines(unsafe.Add(unsafe.Pointer(&mem[0]), from), uint64(n)) }
	for n := range 300 {
		take(len(room)-n, n)
		take(page+n, n)
	}
	take(0, len(room))
	require.Equal(t, was, string(room))

	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for i := range 3 {
		require.NoError(t, syscall.Mprotect(mem[i*page:(i+1)*page], syscall.PROT_READ))
		if atomicx.SharedIsSlow {
			require.Panics(t, func() { take(0, len(room)) })
			require.Panics(t, func() { take(i*page+page/2, 1) })
		}
		require.NoError(t, syscall.Mprotect(mem[i*page:(i+1)*page], syscall.PROT_READ|syscall.PROT_WRITE))
	}
}

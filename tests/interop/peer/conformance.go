//go:build linux

package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Dir makes a directory for rings that is gone after the test.
func Dir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "millrace-interop-")
	if err != nil {
		t.Skipf("no /dev/shm: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// Conforms runs each command of the protocol once, with two peers of the language that command starts.
func Conforms(t *testing.T, language string, command ...string) {
	for _, kind := range []string{"spsc", "mpmc"} {
		t.Run(kind, func(t *testing.T) {
			dir := Dir(t)
			a, b := Start(t, dir, command...), Start(t, dir, command...)
			require.Equal(t, language, a.Name)
			require.Equal(t, []string{"created"}, a.OK("openorcreate r "+kind+" 8 64 redeliver maxdeliveries=9 participants=12 perm=640"))
			a.Fails("create r "+kind+" 8 64 redeliver", "exist")
			b.OK("open r")
			require.Contains(t, b.OK("info"), "kind="+kind)
			b.Fails("open nothing", "notexist")
			b.OK("open r")
			a.OK("producer")
			b.Fails("nonsense", "protocol")
			b.Fails("receive 1", "protocol")
			b.OK("consumer grace=5")

			require.Equal(t, []string{"3"}, a.OK("send 3 0..100 7 10"))
			items := b.Items("receive 3")
			for i, it := range items {
				require.EqualValues(t, 10+i, it.Seq)
				require.EqualValues(t, 1, it.Deliveries)
			}
			require.Equal(t, []string{fmt.Sprint(items[2].Position), "1"}, b.OK("last"))
			b.Fails("tryreceive 1", "empty")
			require.Equal(t, "8", a.Fails("trysend 9 20 7 20", "full").Words[0])
			require.Len(t, b.Items("tryreceive 8"), 8)

			a.OK("sendbatch 3 20 7 30")
			a.OK("trysendbatch 3 20 7 33")
			leased := b.Items("nextbatch 2")
			require.Len(t, leased, 2)
			b.Fails("trynext", "misuse")
			b.OK("release 0")
			b.OK("return 1")
			require.EqualValues(t, 2, b.Items("next")[0].Deliveries)
			b.OK("release")
			for range 4 {
				b.Items("trynextbatch 1")
				b.OK("release")
			}

			a.OK("reserve 40 7 50")
			a.Fails("commit 41", "size")
			a.OK("commit 30")
			require.EqualValues(t, 30, b.Items("trynext")[0].Size)
			b.OK("release")
			a.OK("tryreserve 10 7 51")
			a.OK("discard")
			require.EqualValues(t, 1, a.Stats()["discarded"])
			require.Len(t, a.OK("who"), 2)
			if fork := a.Ask("fork"); fork.Code != "unsupported" {
				require.Equal(t, []string{"closed", "none"}, fork.Words)
				require.Equal(t, []string{"none", "closed"}, b.OK("fork"))
			}
			a.Fails("remove r", "inuse")

			a.OK("send 2 64 8 0")
			a.OK("send 1 64 7 60")
			a.OK("close producer")
			require.Equal(t, []string{"3", "0", "7:1:60:60:60", "8:2:0:1:1"}, b.OK("drain"))
			require.Equal(t, []string{"0"}, b.OK("recover"))
			b.OK("close consumer")
			b.OK("close ring")
			a.OK("close ring")
			a.OK("observe r")
			a.Fails("producer", "permission")
			b.OK("remove r drained")
		})
	}
}

// PoursAndSwallows lets one peer pour what the other swallows, in some pairs of modes.
func PoursAndSwallows(t *testing.T, from, to []string) {
	for _, modes := range [][2]string{{"send", "receive"}, {"try", "try"}, {"batch", "next"}, {"reserve", "batch"}} {
		t.Run(modes[0]+" "+modes[1], func(t *testing.T) {
			dir := Dir(t)
			a, b := Start(t, dir, from...), Start(t, dir, to...)
			a.OK("create r mpmc 16 32 drop")
			b.OK("open r")
			a.OK("producer")
			b.OK("consumer")
			done, log := filepath.Join(t.TempDir(), "done"), filepath.Join(t.TempDir(), "log")
			require.NoError(t, os.WriteFile(done, make([]byte, 8), 0o600))
			b.OK("swallow " + modes[1] + " " + log)
			a.OK("pour " + modes[0] + " 0..100 5 100 50 " + done)
			require.Equal(t, []string{"50"}, a.Answer().Words)
			a.OK("close producer")
			end := b.Answer()
			require.Equal(t, "eof", end.Code)
			require.Equal(t, []string{"50"}, end.Words)
			records, err := os.ReadFile(log)
			require.NoError(t, err)
			require.Len(t, records, 50*24)
			progress, err := os.ReadFile(done)
			require.NoError(t, err)
			require.EqualValues(t, 50, progress[0])
		})
	}
}

package rust

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/tests/interop/peer"
)

const crate = "../../../bindings/rust"

// programs builds the peers once.
var programs = sync.OnceValues(func() (map[string]string, error) {
	rust := exec.Command("cargo", "build", "--release", "--offline", "--locked", "--example", "peer")
	rust.Dir = crate
	if out, err := rust.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cargo build: %w\n%s", err, out)
	}
	target := os.Getenv("CARGO_TARGET_DIR")
	if target == "" {
		target = filepath.Join(crate, "target")
	}
	dir, err := os.MkdirTemp("", "millrace-gopeer-")
	if err != nil {
		return nil, err
	}
	goPeer := filepath.Join(dir, "gopeer")
	if out, err := exec.Command("go", "build", "-o", goPeer, "../gopeer").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return map[string]string{"go": goPeer, "rust": filepath.Join(target, "release/examples/peer")}, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if _, err := exec.LookPath("cargo"); err == nil {
		if p, err := programs(); err == nil {
			_ = os.RemoveAll(filepath.Dir(p["go"])) // a temporary directory
		}
	}
	os.Exit(code)
}

// place is a directory of rings and the peers that work on them.
type place struct {
	t   *testing.T
	dir string
}

func newPlace(t *testing.T) place {
	if _, err := exec.LookPath("cargo"); err != nil {
		t.Skip("there is no cargo: the Rust client is not tested")
	}
	_, err := programs()
	require.NoError(t, err)
	dir, err := os.MkdirTemp("/dev/shm", "millrace-rust-")
	if err != nil {
		t.Skipf("no /dev/shm: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return place{t, dir}
}

// start starts a peer of a language, and opens the ring r if it exists.
func (p place) start(language string) *peer.Process {
	all, err := programs()
	require.NoError(p.t, err)
	x := peer.Start(p.t, p.dir, all[language])
	require.Equal(p.t, language, x.Name)
	if _, err := os.Stat(filepath.Join(p.dir, "r")); err == nil {
		x.OK("open r")
	}
	return x
}

var pairs = [][2]string{{"go", "rust"}, {"rust", "go"}, {"rust", "rust"}}

// each runs f for each pair of languages and both kinds of ring.
func each(t *testing.T, f func(t *testing.T, p place, kind, first, second string)) {
	for _, pair := range pairs {
		for _, kind := range []string{"spsc", "mpmc"} {
			t.Run(fmt.Sprintf("%s/%s-%s", kind, pair[0], pair[1]), func(t *testing.T) {
				f(t, newPlace(t), kind, pair[0], pair[1])
			})
		}
	}
}

// TestExchange sends messages of every size from one language to the other, in each way to send and to receive. Properties: each arrives
// once, whole and in order, and the ring is empty afterwards.
func TestExchange(t *testing.T) {
	each(t, func(t *testing.T, p place, kind, first, second string) {
		a := p.start(first)
		a.OK("create r " + kind + " 16 64 redeliver participants=8")
		b := p.start(second)
		require.Equal(t, a.OK("info"), b.OK("info"))
		a.OK("producer")
		b.OK("consumer")
		seq := uint64(0)
		expect := func(items []peer.Item, n int) {
			t.Helper()
			require.Len(t, items, n)
			for _, it := range items {
				require.Equal(t, seq, it.Seq)
				require.EqualValues(t, 1, it.Deliveries)
				seq++
			}
		}
		for _, size := range []string{"16..17", "40..48", "64", "65..200", "512", "16..512"} {
			for range 9 {
				a.OK(fmt.Sprintf("send 1 %s 5 %d", size, seq))
				expect(b.Items("receive 1"), 1)
				a.OK(fmt.Sprintf("trysend 1 %s 5 %d", size, seq))
				expect(b.Items("tryreceive 1"), 1)
				a.OK(fmt.Sprintf("reserve %s 5 %d", size, seq))
				b.Fails("trynext", "empty")
				a.OK("commit")
				expect(b.Items("next"), 1)
				b.OK("release")
				got := 0
				a.Tell(fmt.Sprintf("sendbatch 5 %s 5 %d", size, seq)) // may not fit at once
				for got < 5 {
					items := b.Items("nextbatch 2")
					expect(items, len(items))
					got += len(items)
					b.OK("release")
				}
				require.True(t, a.Answer().OK)
			}
		}
		a.OK("send 3 0..3 5 0")
		require.Len(t, b.Items("receive 3"), 3)
		a.Fails("send 1 513 5 0", "size")
		s := b.Stats()
		require.Zero(t, s["used"])
		require.Equal(t, s["sent"], s["received"])
	})
}

// TestFullAndEmpty: both sides wait for each other, and answer at once where they may not wait.
func TestFullAndEmpty(t *testing.T) {
	each(t, func(t *testing.T, p place, kind, first, second string) {
		a := p.start(first)
		a.OK("create r " + kind + " 4 32 redeliver")
		b := p.start(second)
		a.OK("producer")
		b.OK("consumer")
		for seq := 0; seq < 400; seq += 4 {
			b.Fails("tryreceive 1", "empty")
			require.Equal(t, 4, a.Fails(fmt.Sprintf("trysend 5 16..32 1 %d", seq), "full").Count(t))
			require.Equal(t, 0, a.Fails(fmt.Sprintf("trysendbatch 5 16..32 1 %d", seq), "full").Count(t))
			a.Fails("tryreserve 1 1 1", "full")
			require.Len(t, b.Items("receive 4"), 4)
		}
		a.OK("timeout 30")
		b.OK("timeout 30")
		b.Fails("receive 1", "timeout")
		b.Fails("next", "timeout")
		require.Equal(t, 4, a.Fails("send 5 16 1 0", "timeout").Count(t))
		require.Len(t, b.Items("receive 4"), 4)
		for _, x := range []*peer.Process{a, b} {
			x.OK("timeout 0")
		}
		b.Tell("receive 2000")
		a.OK("send 2000 16..32 1 0")
		require.Len(t, b.Answer().Words, 2001)
	})
}

// TestReturnsAndEnd: what one language gives back the other receives again, marked; the stream ends for both.
func TestReturnsAndEnd(t *testing.T) {
	each(t, func(t *testing.T, p place, kind, first, second string) {
		a := p.start(first)
		a.OK("create r " + kind + " 8 32 redeliver maxdeliveries=4")
		b := p.start(second)
		a.OK("producer")
		b.OK("consumer")
		a.OK("sendbatch 4 20 9 0")
		a.OK("reserve 20 9 7")
		a.OK("discard")
		require.Len(t, b.Items("nextbatch 4"), 4)
		b.OK("release 0")
		b.OK("return")
		b.OK("close consumer")
		c := p.start(first)
		c.OK("consumer")
		for i := uint64(1); i < 4; i++ {
			it := c.Items("next")[0]
			require.Equal(t, i, it.Seq)
			require.EqualValues(t, 2, it.Deliveries)
			if i == 3 {
				c.OK("return")
				require.EqualValues(t, 3, c.Items("next")[0].Deliveries)
				c.OK("return")
				require.EqualValues(t, 4, c.Items("next")[0].Deliveries)
				c.OK("return")
				break
			}
			c.OK("release")
		}
		c.Fails("trynext", "empty")
		a.OK("send 1 20 9 9")
		a.OK("close producer")
		require.Equal(t, []string{"1", "0", "9:1:9:9:9"}, c.OK("drain"))
		s := c.Stats()
		require.EqualValues(t, 1, s["lost"])
		require.EqualValues(t, 0, s["used"])
		require.EqualValues(t, 1, s["discarded"])
	})
}

// TestRemoval: nobody removes a ring under another language's feet, except by force, which everybody hears of.
func TestRemoval(t *testing.T) {
	each(t, func(t *testing.T, p place, kind, first, second string) {
		a := p.start(first)
		a.OK("create r " + kind + " 8 32 drop perm=640")
		b := p.start(second)
		b.Fails("create r "+kind+" 8 32 drop", "exist")
		b.Fails("openorcreate r "+kind+" 16 32 drop", "mismatch")
		require.Equal(t, []string{"opened"}, b.OK("openorcreate r "+kind+" 8 32 drop"))
		a.OK("close ring")
		a.Fails("remove r", "inuse")
		b.OK("producer")
		b.OK("send 1 9 9 9")
		b.OK("close ring")
		a.Fails("remove r drained", "inuse")
		a.OK("open r")
		a.OK("consumer follow")
		a.Tell("receive 2")
		b.OK("remove r force")
		require.Contains(t, []string{"lost"}, a.Answer().Code)
		b.Fails("open r", "notexist")
	})
}

// TestRacingCreators: of processes of both languages that race for one name exactly one creates.
func TestRacingCreators(t *testing.T) {
	p := newPlace(t)
	var all []*peer.Process
	for i := range 6 {
		all = append(all, p.start(pairs[i%2][0]))
	}
	for round := range 20 {
		for _, x := range all {
			x.Tell(fmt.Sprintf("openorcreate q%d mpmc 8 32 redeliver", round))
		}
		created := 0
		for _, x := range all {
			if a := x.Answer(); a.OK && a.Words[0] == "created" {
				created++
			}
		}
		require.Equal(t, 1, created)
	}
}

// TestForkedChildHasNoRole: its handles answer closed, and the parent's go on.
func TestForkedChildHasNoRole(t *testing.T) {
	p := newPlace(t)
	a := p.start("rust")
	a.OK("create r mpmc 8 32 redeliver")
	require.Equal(t, []string{"none", "none"}, a.OK("fork"))
	a.OK("producer")
	a.OK("consumer")
	require.Equal(t, []string{"closed", "closed"}, a.OK("fork"))
	a.OK("send 1 20 1 1")
	require.Len(t, a.Items("receive 1"), 1)
	require.EqualValues(t, 1, a.Stats()["producers_live"])
}

// TestBackings: a System V ring of one language is opened, used and removed by the other.
func TestBackings(t *testing.T) {
	each(t, func(t *testing.T, p place, kind, first, second string) {
		a := p.start(first)
		if x := a.Ask("create r " + kind + " 8 32 redeliver backing=sysv"); !x.OK {
			t.Skipf("no System V segments here: %s", x.Code)
		}
		b := p.start(second)
		require.Contains(t, b.OK("info"), "backing=sysv")
		a.OK("producer")
		b.OK("consumer")
		a.OK("send 8 16..32 2 0")
		require.Len(t, b.Items("receive 8"), 8)
		a.Kill()
		b.Fails("receive 1", "eof")
		b.OK("close ring")
		b.OK("remove r")
	})
}

// until polls.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, peer.Patience, time.Millisecond, what)
}

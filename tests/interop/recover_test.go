//go:build linux

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/interop/peer"
)

// TestRecover kills a peer of each language that holds a claim and a lease of two messages, and lets each language recover. Properties: the claim is skipped and counted; what was leased comes again with a
// higher count, or is lost and counted, as the policy says; nothing else changes.
func TestRecover(t *testing.T) {
	there := peers(t)
	for _, victim := range there {
		for _, rescuer := range there {
			t.Run(victim.name+" by "+rescuer.name, func(t *testing.T) {
				dir := shm(t)
				r := rescuer.start(t, dir)
				for _, kind := range kinds {
					for _, policy := range []string{"redeliver", "drop"} {
						recoverOne(t, victim, r, dir, kind, policy)
					}
				}
			})
		}
	}
}

func recoverOne(t *testing.T, victim *language, r *peer.Process, dir, kind, policy string) {
	what := kind + " " + policy
	name := kind + policy
	v := victim.start(t, dir)
	create(t, victim, v, dir, name, kind, policy)
	r.OK("open " + name)
	v.OK("producer")
	v.OK("consumer")
	v.OK("send 2 100 7 0")
	v.OK("send 1 20 7 2")
	leased := len(v.Items("nextbatch 2"))
	v.OK("reserve 130 7 3")
	v.Tell("hold")
	v.Line()
	for _, w := range r.OK("who") {
		require.NotContains(t, w, "dead", what)
	}
	require.Equal(t, []string{"0"}, r.OK("recover"), what)
	v.Kill()
	dead := 0
	for _, w := range r.OK("who") {
		if strings.HasSuffix(w, ":dead") {
			dead++
		}
	}
	require.Equal(t, 2, dead, what)
	require.Equal(t, []string{"2"}, r.OK("recover"), what)
	require.Equal(t, []string{"0"}, r.OK("recover"), what)
	r.OK("producer")
	r.OK("consumer")
	r.OK("send 1 30 7 4")
	var got []string
	for _, it := range append(r.Items(fmt.Sprintf("receive %d", 1)), drain(r)...) {
		got = append(got, fmt.Sprintf("%d x%d", it.Seq, it.Deliveries))
	}
	var want []string
	for seq := range 3 {
		switch {
		case seq >= leased:
			want = append(want, fmt.Sprintf("%d x1", seq))
		case policy == "redeliver":
			want = append(want, fmt.Sprintf("%d x2", seq))
		}
	}
	require.Equal(t, append(want, "4 x1"), got, what)
	s := r.Stats()
	lost := 0
	if policy == "drop" {
		lost = leased
	}
	require.EqualValues(t, []uint64{0, uint64(lost), 1, 1, 1}, []uint64{s["used"], s["lost"], s["skipped"], s["producers_died"], s["consumers_died"]}, what)
	r.OK("close ring")
}

// drain takes what is there.
func drain(p *peer.Process) (items []peer.Item) {
	for {
		a := p.Ask("tryreceive 1")
		if a.Code == "empty" {
			return items
		}
		require.True(p.T(), a.OK, "%s: %s", p.Name, a.Code)
		items = append(items, a.Items(p.T())...)
	}
}

// TestRegisterBesideARecoverer: somebody holds the locks of all entries of the table for a moment, as one does who recovers dead participants or looks whether they live. Properties, for
// every language and role: who registers then waits and gets an entry; one lock that stays is no reason to wait for ever, and the table is full then.
func TestRegisterBesideARecoverer(t *testing.T) {
	const setLock = 37 // F_OFD_SETLK
	for _, l := range peers(t) {
		t.Run(l.name, func(t *testing.T) {
			dir := shm(t)
			r, err := ring.Create("busy", ring.Options{Slots: slots, SlotSize: slotSize, Participants: 2, Dir: dir})
			require.NoError(t, err)
			require.NoError(t, r.Close())
			f, err := os.OpenFile(filepath.Join(dir, "busy"), os.O_RDWR, 0)
			require.NoError(t, err)
			defer func() { require.NoError(t, f.Close()) }()
			lock := func(kind int16, participants int64) {
				err := syscall.FcntlFlock(f.Fd(), setLock, &syscall.Flock_t{Type: kind, Start: layout.LockParticipant, Len: participants})
				assert.NoError(t, err)
			}
			p := l.start(t, dir)
			p.OK("open busy")
			for _, role := range []string{"consumer", "producer"} {
				for _, kind := range []int16{syscall.F_RDLCK, syscall.F_WRLCK} {
					lock(kind, 2)
					time.AfterFunc(30*time.Millisecond, func() { lock(syscall.F_UNLCK, 2) })
					p.OK(role)
					p.OK("close " + role)
				}
			}
			lock(syscall.F_WRLCK, 2)
			require.Equal(t, "toomany", p.Ask("producer wait").Code)
			lock(syscall.F_UNLCK, 2)
			p.OK("producer wait")
		})
	}
}

// TestTryCallsLookForTheDead: a peer dies with a claim, in front of a message, or with a lease of a full ring; nobody recovers it, and the survivor makes calls that never block. Properties, for
// every language: a try-receive gets the message behind the claim before long, and a try-send gets the room of messages that are dropped.
func TestTryCallsLookForTheDead(t *testing.T) {
	there := peers(t)
	tries := func(t *testing.T, p *peer.Process, command string) {
		require.Eventually(t, func() bool { return p.Ask(command).OK }, 5*time.Second, time.Millisecond, command)
	}
	for _, l := range there {
		t.Run(l.name, func(t *testing.T) {
			dir := shm(t)
			createHere(t, dir, "claim", "mpmc", "drop")
			createHere(t, dir, "lease", "mpmc", "drop")
			p := l.start(t, dir)
			p.OK("open claim")
			p.OK("consumer")
			v, other := there[0].start(t, dir), there[0].start(t, dir)
			v.OK("open claim")
			other.OK("open claim")
			v.OK("producer")
			other.OK("producer")
			v.OK("reserve 10 7 0")
			other.OK("send 1 10 7 1")
			require.Equal(t, "empty", p.Ask("tryreceive 1").Code)
			v.Kill()
			tries(t, p, "tryreceive 1")
			p.OK("close consumer")
			p.OK("close ring")

			p.OK("open lease")
			v = there[0].start(t, dir)
			v.OK("open lease")
			v.OK("consumer")
			p.OK("producer")
			p.OK(fmt.Sprintf("send %d 10 7 0", slots))
			require.Len(t, v.Items(fmt.Sprintf("nextbatch %d", slots)), slots)
			require.Equal(t, "full", p.Ask("trysend 1 10 7 0").Code)
			spare := there[0].start(t, dir)
			spare.OK("open lease")
			spare.OK("consumer")
			v.Kill()
			tries(t, p, "trysend 1 10 7 0")
		})
	}
}

// TestForkedChild: a Python parent holds a claim and a lease and has forked a child that lives on; the parent is killed. Properties, for survivors of every language: the death is
// seen although the child lives, the claim is skipped, and what was leased comes again. The same for the other languages that fork, by their peers' own command.
func TestForkedChild(t *testing.T) {
	there := peers(t)
	var python *language
	for _, l := range there {
		if l.name == "python" {
			python = l
		}
	}
	if python == nil {
		t.Skip("no python3")
	}
	const program = `
import millrace, os, signal, sys
ring = millrace.open(sys.argv[1])
p, c = ring.producer(), ring.consumer()
p.send(b"message")
lease = c.next()
room = p.reserve(5)
begun, begin = os.pipe()
child = os.fork()
if child == 0:
    os.write(begin, b"!") # what fork inherited is closed by now
    signal.pause()
os.read(begun, 1)
print(child, flush=True)
signal.pause()
`
	for _, survivor := range there {
		for _, kind := range kinds {
			t.Run(survivor.name+"/"+kind, func(t *testing.T) {
				dir := shm(t)
				s := survivor.start(t, dir)
				create(t, survivor, s, dir, "forked", kind, "redeliver")
				args := append(python.command[1:len(python.command)-1:len(python.command)-1], "-c", program, "forked")
				parent := exec.Command(python.command[0], args...)
				parent.Env = append(os.Environ(), "MILLRACE_DIR="+dir)
				parent.Stderr = os.Stderr
				out, err := parent.StdoutPipe()
				require.NoError(t, err)
				require.NoError(t, parent.Start())
				var child int
				_, err = fmt.Fscan(out, &child)
				require.NoError(t, err)
				orphan, err := os.FindProcess(child)
				require.NoError(t, err)
				defer func() { require.NoError(t, orphan.Kill()) }() // alive up to here
				require.NoError(t, parent.Process.Kill())
				_, err = parent.Process.Wait()
				require.NoError(t, err)

				if kind == "spsc" {
					s.OK("producer")
				}
				s.OK("consumer")
				items := s.Items("receive 1")
				require.EqualValues(t, 7, items[0].Size)
				require.EqualValues(t, 2, items[0].Deliveries)
				s.OK("recover")
				stats := s.Stats()
				require.EqualValues(t, []uint64{1, 1, 1, 0}, []uint64{stats["skipped"], stats["producers_died"], stats["consumers_died"], stats["lost"]})
			})
		}
	}
	for _, l := range there {
		t.Run("fork "+l.name, func(t *testing.T) {
			dir := shm(t)
			p := l.start(t, dir)
			create(t, l, p, dir, "r", "mpmc", "redeliver")
			p.OK("producer")
			p.OK("consumer")
			a := p.Ask("fork")
			if a.Code == "unsupported" {
				t.Skipf("%s does not fork", l.name)
			}
			require.Equal(t, []string{"closed", "closed"}, a.Words)
			p.OK("send 1 10 1 1")
			require.Len(t, p.Items("receive 1"), 1)
		})
	}
}

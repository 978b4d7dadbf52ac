//go:build linux && (amd64 || arm64)

package fuzz

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
)

// largest is the size of the largest file that an input becomes.
const largest = 16 << 20

// mend makes the checksum of a header right, as whoever forges one would.
func mend(mem []byte) {
	if len(mem) >= layout.HeaderSize {
		put64(mem, layout.HeaderChecksum, xxhash.Sum64(mem[:layout.HeaderChecksum]))
	}
}

// FuzzOpen opens arbitrary bytes as a segment, and uses them if they are one. extend makes the file as large as its header says.
func FuzzOpen(f *testing.F) {
	for _, name := range goldenNames(f) {
		mem := golds(f, name)
		f.Add(mem, []byte{}, false, false)
		f.Add(mem, []byte(name), true, false)
		f.Add(mem[:min(len(mem), layout.ParticipantsOffset)], []byte(name), true, true)
	}
	dir := scratch(f)
	f.Fuzz(func(t *testing.T, mem, script []byte, fix, extend bool) { openBytes(t, dir, mem, script, fix, extend) })
}

func openBytes(t *testing.T, dir string, mem, script []byte, fix, extend bool) {
	defer watch("FuzzOpen", mem, script, fix, extend)()
	if fix {
		mem = append([]byte(nil), mem...)
		mend(mem)
	}
	path := filepath.Join(dir, "q")
	require.NoError(t, os.WriteFile(path, mem, 0o600))
	if h, err := layout.Decode(mem, math.MaxInt64); err == nil && extend && h.SegmentSize <= largest {
		require.NoError(t, os.Truncate(path, max(int64(len(mem)), int64(h.SegmentSize))))
	}
	exercise(t, dir, &tape{script})
}

var (
	goldenMu    sync.Mutex
	goldenBytes = map[string][]byte{}
)

// golds returns the bytes of a golden segment.
func golds(t testing.TB, name string) []byte {
	goldenMu.Lock()
	defer goldenMu.Unlock()
	if goldenBytes[name] == nil {
		mem, err := os.ReadFile(filepath.Join(goldenDir, name+".bin"))
		require.NoError(t, err)
		goldenBytes[name] = mem
	}
	return goldenBytes[name]
}

// usable are the golden segments that can be opened.
func usable(t testing.TB) (names []string) {
	for _, name := range goldenNames(t) {
		mem := golds(t, name)
		if _, err := layout.Decode(mem, int64(len(mem))); err == nil && len(mem) > layout.HeaderSize {
			names = append(names, name)
		}
	}
	return names
}

// forger writes words that somebody might have put there on purpose.
type forger struct {
	h layout.Header
	n func(below uint64) uint64
}

// target chooses the offset of a word that means something, or any.
func (g forger) target() uint64 {
	entry := g.h.EntriesOffset + g.n(g.h.Slots)*uint64(g.h.EntryStride)
	words := func(name string) uint64 {
		fields := tables()[name].Fields
		return uint64(fields[g.n(uint64(len(fields)))].Offset)
	}
	switch g.n(8) {
	case 0, 1, 2:
		return entry
	case 3:
		return entry + layout.EntryLength
	case 4:
		return layout.ControlOffset + words("Control")&^7
	case 5:
		return g.h.ParticipantsOffset + g.n(uint64(g.h.Participants))*layout.ParticipantSize + words("Participant")&^7
	case 6:
		return g.h.AccountsOffset + 8*g.n(g.h.Slots)
	}
	return layout.ControlOffset + 8*g.n((g.h.SegmentSize-layout.ControlOffset)/8)
}

// value makes a word for a place where was is now: near it, well-formed with a wrong position, owner or extent, or anything.
func (g forger) value(was, producer uint64) uint64 {
	near := producer + g.n(4*g.h.Slots) - 2*g.h.Slots
	mpmc := func(state uint64) uint64 {
		return near<<layout.MpmcSequenceShift | g.n(8)<<layout.OwnerShift | state
	}
	switch g.n(16) {
	case 0:
		return 0
	case 1:
		return math.MaxUint64
	case 2:
		return was ^ 1<<g.n(64)
	case 3:
		return was + g.n(5) - 2
	case 4:
		return near<<layout.MpmcSequenceShift | layout.StateFree
	case 5:
		return near<<layout.MpmcSequenceShift | layout.StateReady | g.n(64)
	case 6:
		return mpmc(layout.StateClaimed)
	case 7:
		return mpmc(layout.StateTaken | g.n(64))
	case 8:
		return mpmc(layout.StateDone)
	case 9:
		return near<<layout.SpscSequenceShift | layout.StateReady | g.n(64)
	case 10:
		return near
	case 11:
		return near + 1<<40
	case 12:
		return []uint64{layout.FlagInline, layout.FlagRun, layout.FlagPad, layout.FlagPad | layout.FlagSkip}[g.n(4)] | g.n(4*g.h.SlotSize)
	case 13:
		return 4095<<layout.OwnerShift | was&^uint64(layout.OwnerMask<<layout.OwnerShift)
	case 14:
		return g.n(1 << 12)
	}
	return g.n(math.MaxUint64)
}

// message makes the two words of a message near a position: of so many slots, and of a length that just fits, or just does not.
func (g forger) message(near uint64) (at, state, length uint64) {
	p := near + g.n(4)
	k := 1 + g.n(2)*g.n(g.h.Slots+1)
	if e := p + k; g.h.Kind == layout.KindMPMC {
		state = e<<layout.MpmcSequenceShift | layout.StateReady
	} else {
		state = e<<layout.SpscSequenceShift | layout.StateReady
	}
	switch end := k * g.h.SlotSize; g.n(6) {
	case 0:
		length = end
	case 1:
		length = end + 1
	case 2:
		length = end - g.h.SlotSize + 1 + g.n(g.h.SlotSize)
	case 3:
		length = end + g.n(g.h.Slots*g.h.SlotSize)
	case 4:
		length = layout.FlagInline | g.n(g.h.Slots*g.h.SlotSize)
	case 5:
		length = layout.FlagRun | g.n(2*g.h.SlotSize)
	}
	return g.h.EntriesOffset + p%g.h.Slots*uint64(g.h.EntryStride), state, length
}

// FuzzMutated uses a golden segment in which words and bytes were changed.
func FuzzMutated(f *testing.F) {
	names := usable(f)
	for i := range names {
		f.Add(uint8(i), []byte{3, 0, 1, 5, 9, 2, 4, 7}, []byte(names[i]))
	}
	dir := scratch(f)
	f.Fuzz(func(t *testing.T, which uint8, changes, script []byte) {
		mutated(t, dir, names, which, changes, script)
	})
}

func mutated(t *testing.T, dir string, names []string, which uint8, changes, script []byte) {
	defer watch("FuzzMutated", which, changes, script)()
	mem := append([]byte(nil), golds(t, names[int(which)%len(names)])...)
	h, err := layout.Decode(mem, int64(len(mem)))
	require.NoError(t, err)
	c := &tape{changes}
	g := forger{h, c.n}
	for i := 0; c.left() && i < 64; i++ {
		switch c.n(16) {
		case 0:
			mem[c.n(uint64(len(mem)))] = c.byte()
		case 1:
			fields := tables()["Header"].Fields
			f := fields[c.n(uint64(len(fields)))]
			mem[f.Offset+int(c.n(uint64(f.Size)))] = c.byte()
		case 2, 3, 4, 5:
			at, state, length := g.message(get64(mem, layout.ControlOffset+layout.ControlConsumerPosition))
			put64(mem, at, state)
			put64(mem, at+layout.EntryLength, length)
		default:
			at := g.target()
			put64(mem, at, g.value(get64(mem, at), get64(mem, layout.ControlOffset+layout.ControlProducerPosition)))
		}
	}
	mend(mem)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "q"), mem, 0o600))
	exercise(t, dir, &tape{script})
}

// FuzzMeanwhile lets two users work on a golden segment while a third one writes what the input says into it, again and again.
func FuzzMeanwhile(f *testing.F) {
	names := usable(f)
	for i := range names {
		f.Add(uint8(i), []byte{3, 0, 1, 5, 9, 2, 4, 7, 0, 5, 1, 12}, []byte(names[i]), []byte("another user of "+names[i]))
	}
	dir := scratch(f)
	f.Fuzz(func(t *testing.T, which uint8, changes, script, other []byte) {
		meanwhile(t, dir, names, which, changes, script, other)
	})
}

// meanwhile uses a segment twice at once, while the changes are written into it.
func meanwhile(t *testing.T, dir string, names []string, which uint8, changes, script, other []byte) {
	defer watch("FuzzMeanwhile", which, changes, script, other)()
	path := filepath.Join(dir, "q")
	require.NoError(t, os.WriteFile(path, golds(t, names[int(which)%len(names)]), 0o600))
	defer func() { require.NoError(t, os.Remove(path)) }()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	info, err := file.Stat()
	require.NoError(t, err)
	mem, err := syscall.Mmap(int(file.Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Munmap(mem)) }()
	h, err := layout.Decode(mem, info.Size())
	require.NoError(t, err)

	var users, evil sync.WaitGroup
	var stop atomic.Bool
	evil.Go(func() {
		word := func(at uint64) *atomic.Uint64 { return (*atomic.Uint64)(unsafe.Pointer(&mem[at])) }
		for !stop.Load() {
			c := &tape{changes}
			for g := (forger{h, c.n}); c.left() && !stop.Load(); {
				if c.n(4) == 0 {
					at, state, length := g.message(word(layout.ControlOffset + layout.ControlConsumerPosition).Load())
					word(at + layout.EntryLength).Store(length)
					word(at).Store(state)
				}
				w := word(g.target())
				w.Store(g.value(w.Load(), word(layout.ControlOffset+layout.ControlProducerPosition).Load()))
				for range c.n(256) * 16 { // lets the others get somewhere
					_ = stop.Load()
				}
			}
			if len(changes) == 0 {
				return
			}
		}
	})
	for _, s := range [][]byte{script, other} {
		users.Go(func() {
			tp := &tape{s}
			r, err := ring.Open("q", ring.WithDir(dir))
			if err != nil {
				t.Error(err)
				return
			}
			v := newVictim(t, dir, r, tp.n)
			tp.script(v.step)
			v.done()
		})
	}
	users.Wait()
	stop.Store(true)
	evil.Wait()
}

// hostileFor is how long each of the tests below goes on.
func hostileFor(t *testing.T) time.Duration {
	if d, err := time.ParseDuration(os.Getenv("MILLRACE_FUZZ")); err == nil {
		return d
	}
	if testing.Short() {
		return time.Second
	}
	return 2 * time.Second
}

// TestHostile runs the three targets on random inputs, which go deeper than the engine's in little time: they need no luck to be long. The numbers
// of the input that fails are its seed.
func TestHostile(t *testing.T) {
	names := usable(t)
	all := goldenNames(t)
	for name, run := range map[string]func(t *testing.T, dir string, random *rand.Rand){
		"open": func(t *testing.T, dir string, random *rand.Rand) {
			mem := append([]byte(nil), golds(t, all[random.IntN(len(all))])...)
			for range random.IntN(6) {
				end := len(mem)
				if random.IntN(2) == 0 {
					end = min(end, layout.HeaderReady+4)
				}
				mem[random.IntN(end)] = byte(random.Uint32())
			}
			if random.IntN(8) == 0 {
				mem = mem[:random.IntN(len(mem))]
			}
			openBytes(t, dir, mem, noise(random, 400), random.IntN(4) > 0, random.IntN(2) == 0)
		},
		"mutated": func(t *testing.T, dir string, random *rand.Rand) {
			mutated(t, dir, names, uint8(random.Uint32()), noise(random, 60), noise(random, 400))
		},
		"meanwhile": func(t *testing.T, dir string, random *rand.Rand) {
			meanwhile(t, dir, names, uint8(random.Uint32()), noise(random, 200), noise(random, 400), noise(random, 400))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := scratch(t)
			first := rand.Uint64()
			count := uint64(0)
			for end := time.Now().Add(hostileFor(t)); time.Now().Before(end) && !t.Failed(); count++ {
				t.Run("", func(t *testing.T) {
					t.Logf("seed %d", first+count)
					run(t, dir, rand.New(rand.NewPCG(first+count, 0)))
				})
			}
			t.Logf("%d inputs", count)
		})
	}
}

// noise is up to n random bytes.
func noise(random *rand.Rand, n int) []byte {
	b := make([]byte, random.IntN(n+1))
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

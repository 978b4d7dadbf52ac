//go:build linux

package process

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// damaged is a ring with handles, an open lease and an open reservation, whose file is about to be damaged.
type damaged struct {
	r *ring.Ring
	p *ring.Producer
	c *ring.Consumer
	s ring.Reservation
	m ring.Message
}

// A damagedCall is a call on such a ring. What it needs open is opened before the damage.
type damagedCall struct {
	name           string
	reserve, lease bool
	do             func(d *damaged, ctx context.Context) error
}

// nothingFrom says whether an observer, which has no error to return, saw a lost segment as nothing.
func nothingFrom(nothing bool) error {
	if nothing {
		return ring.ErrSegmentLost
	}
	return nil
}

var damagedCalls = []damagedCall{
	{"Send", false, false, func(d *damaged, ctx context.Context) error { return d.p.Send(ctx, make([]byte, 50)) }},
	{"TrySend", false, false, func(d *damaged, _ context.Context) error { return d.p.TrySend(make([]byte, 8)) }},
	{"SendBatch", false, false, func(d *damaged, ctx context.Context) error {
		_, err := d.p.SendBatch(ctx, [][]byte{make([]byte, 8), make([]byte, 50)})
		return err
	}},
	{"TrySendBatch", false, false, func(d *damaged, _ context.Context) error {
		_, err := d.p.TrySendBatch([][]byte{make([]byte, 8), make([]byte, 8)})
		return err
	}},
	{"Reserve", false, false, func(d *damaged, ctx context.Context) error { _, err := d.p.Reserve(ctx, 8); return err }},
	{"TryReserve", false, false, func(d *damaged, _ context.Context) error { _, err := d.p.TryReserve(8); return err }},
	{"Commit", true, false, func(d *damaged, _ context.Context) error { return d.s.Commit() }},
	{"CommitN", true, false, func(d *damaged, _ context.Context) error { return d.s.CommitN(3) }},
	{"Discard", true, false, func(d *damaged, _ context.Context) error { return d.s.Discard() }},
	{"Receive", false, false, func(d *damaged, ctx context.Context) error {
		_, err := d.c.Receive(ctx, make([]byte, 1024))
		return err
	}},
	{"TryReceive", false, false, func(d *damaged, _ context.Context) error { _, err := d.c.TryReceive(make([]byte, 1024)); return err }},
	{"Next", false, false, func(d *damaged, ctx context.Context) error { _, err := d.c.Next(ctx); return err }},
	{"TryNext", false, false, func(d *damaged, _ context.Context) error { _, err := d.c.TryNext(); return err }},
	{"NextBatch", false, false, func(d *damaged, ctx context.Context) error { _, err := d.c.NextBatch(ctx, 4); return err }},
	{"TryNextBatch", false, false, func(d *damaged, _ context.Context) error { _, err := d.c.TryNextBatch(4); return err }},
	{"All", false, false, func(d *damaged, ctx context.Context) error {
		for _, err := range d.c.All(ctx) {
			return err
		}
		return io.EOF
	}},
	{"Release", false, true, func(d *damaged, _ context.Context) error { return d.m.Release() }},
	{"Return", false, true, func(d *damaged, _ context.Context) error { return d.m.Return() }},
	{"Stats", false, false, func(d *damaged, _ context.Context) error { return nothingFrom(d.r.Stats() == ring.Stats{}) }},
	{"Participants", false, false, func(d *damaged, _ context.Context) error { return nothingFrom(d.r.Participants() == nil) }},
	{"Peek", false, false, func(d *damaged, _ context.Context) error {
		return d.r.Peek(10, func(uint64, int, []byte) bool { return true })
	}},
	{"Recover", true, true, func(d *damaged, _ context.Context) error { _, err := d.r.Recover(false); return err }},
	{"NewProducer", false, false, func(d *damaged, _ context.Context) error { _, err := d.r.NewProducer(); return err }},
	{"NewConsumer", false, false, func(d *damaged, _ context.Context) error { _, err := d.r.NewConsumer(); return err }},
	{"NewTypedProducer", false, false, func(d *damaged, _ context.Context) error { _, err := ring.NewTypedProducer[number](d.r); return err }},
	{"Producer.Close", true, false, func(d *damaged, _ context.Context) error { return d.p.Close() }},
	{"Consumer.Close", false, true, func(d *damaged, _ context.Context) error { return d.c.Close() }},
	{"Ring.Close", true, true, func(d *damaged, _ context.Context) error { return d.r.Close() }},
}

// registers are the calls that find their role taken in an SPSC ring, unless the handle is closed first.
var registers = []string{"NewProducer", "NewConsumer", "NewTypedProducer"}

// A damage is what somebody does to the file behind the ring.
type damage struct {
	name string
	do   func(f *os.File, h seg.Header, random *rand.Rand) error
	want []string // classes of errors that calls may return
	from string   // the class that calls which touch the memory must return, or ""
}

// typedErrors are the classes of everything that a caller can tell, success included.
var typedErrors = []string{"nil", "full", "empty", "eof", "noconsumers", "lost", "misuse", "roletaken", "toomany", "mismatch", "corrupt", "short", "deadline", "peer"}

// truncations cut the file; when nothing is left, every call has to notice.
func truncations() (list []damage) {
	for _, size := range []int64{0, 4096} {
		list = append(list, damage{fmt.Sprintf("truncate to %d", size), func(f *os.File, _ seg.Header, _ *rand.Rand) error { return f.Truncate(size) }, []string{"lost"}, "lost"})
	}
	list = append(list,
		damage{"truncate to the participants", func(f *os.File, h seg.Header, _ *rand.Rand) error {
			return f.Truncate(int64(h.EntriesOffset))
		}, typedErrors, ""},
		damage{"truncate to the entries", func(f *os.File, h seg.Header, _ *rand.Rand) error {
			return f.Truncate(int64(h.AccountsOffset))
		}, typedErrors, ""})
	return list
}

// overwriting writes over one part of the file.
func overwriting() (list []damage) {
	for pattern, fill := range map[string]func([]byte, *rand.Rand){
		"zeros": func(b []byte, _ *rand.Rand) { clear(b) },
		"ones": func(b []byte, _ *rand.Rand) {
			for i := range b {
				b[i] = 0xff
			}
		},
		"random bytes": func(b []byte, random *rand.Rand) {
			for i := range b {
				b[i] = byte(random.Uint32())
			}
		},
		"random words": func(b []byte, random *rand.Rand) { // small numbers and valid states, which get further than noise
			for i := 0; i+8 <= len(b); i += 8 {
				states := []uint64{1, 2, 3, 64, 65, 128, 129}
				binary.LittleEndian.PutUint64(b[i:], random.Uint64N(40)<<(8+12*random.Uint64N(2))|states[random.IntN(len(states))]|random.Uint64N(2)<<(56+random.Uint64N(4)))
			}
		},
	} {
		for part, place := range map[string]func(h seg.Header) (from, to uint64){
			"control page": func(seg.Header) (uint64, uint64) { return 4096, 8192 },
			"participants": func(h seg.Header) (uint64, uint64) { return h.ParticipantsOffset, h.EntriesOffset },
			"entries":      func(h seg.Header) (uint64, uint64) { return h.EntriesOffset, h.AccountsOffset },
			"everything":   func(h seg.Header) (uint64, uint64) { return 0, h.SegmentSize },
			"all but header": func(h seg.Header) (uint64, uint64) {
				return 4096, h.SegmentSize
			},
		} {
			list = append(list, damage{pattern + " over " + part, func(f *os.File, h seg.Header, random *rand.Rand) error {
				from, to := place(h)
				b := make([]byte, to-from)
				fill(b, random)
				_, err := f.WriteAt(b, int64(from))
				return err
			}, typedErrors, ""})
		}
	}
	list = append(list, damage{"lengths", func(f *os.File, h seg.Header, _ *rand.Rand) error { // sound state words, lengths that lead out of everything
		for i := range h.Slots {
			if _, err := f.WriteAt([]byte{0xff, 0xff, 0xff, 0xff, 0xff}, int64(h.EntriesOffset+i*uint64(h.EntryStride)+8)); err != nil {
				return err
			}
		}
		return nil
	}, typedErrors, ""})
	slices.SortFunc(list, func(a, b damage) int { return strings.Compare(a.name, b.name) })
	return list
}

func init() { children["damage"] = damageChild }

// longest is far above what a call on a damaged ring of these sizes may take besides its context.
const longest = 5 * time.Second

// damageChild makes a ring, damages it and calls, for each damage and call. It is a process of its own because a fault would end it.
func damageChild(args []string) error {
	dir := args[0]
	kind, list := ring.SPSC, truncations()
	if args[1] == ring.MPMC.String() {
		kind = ring.MPMC
	}
	var seed uint64
	if _, err := fmt.Sscan(args[3], &seed); err != nil {
		return err
	}
	if args[2] == "overwrite" {
		list = overwriting()
	}
	random := rand.New(rand.NewPCG(seed, 0))
	seen := map[string]int{}
	for _, d := range list {
		for _, c := range damagedCalls {
			what := fmt.Sprintf("%s, %s, %s", kind, d.name, c.name)
			fmt.Println("next", what)
			class, err := damageOnce(dir, kind, d, c, random)
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			seen[class]++
		}
	}
	fmt.Println("seen", seen)
	return nil
}

// damageOnce does one damage and one call.
func damageOnce(dir string, kind ring.Kind, d damage, c damagedCall, random *rand.Rand) (class string, err error) {
	r, err := ring.Create("d", ring.Options{Kind: kind, Slots: 8, SlotSize: 32, Participants: 8, MaxDeliveries: 3, Dir: dir})
	if err != nil {
		return "", err
	}
	w := &damaged{r: r}
	if w.p, err = r.NewProducer(); err != nil {
		return "", err
	}
	if w.c, err = r.NewConsumer(); err != nil {
		return "", err
	}
	for i := range 3 {
		if err = w.p.TrySend(make([]byte, 20*i)); err != nil {
			return "", err
		}
	}
	if c.lease {
		w.m, err = w.c.TryNext()
	} else {
		_, err = w.c.TryReceive(nil)
	}
	if err != nil {
		return "", err
	}
	if c.reserve {
		if w.s, err = w.p.TryReserve(5); err != nil {
			return "", err
		}
	}
	if kind == ring.SPSC && slices.Contains(registers, c.name) {
		err = errors.Join(w.p.Close(), w.c.Close())
	}
	path := filepath.Join(dir, "d")
	f, openErr := os.OpenFile(path, os.O_RDWR, 0)
	if err = errors.Join(err, openErr); err != nil {
		return "", err
	}
	if err = errors.Join(d.do(f, r.Header(), random), f.Close()); err != nil {
		return "", err
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	start := time.Now()
	err = c.do(w, ctx)
	class = classOf(err)
	if took := time.Since(start); took > longest {
		return "", fmt.Errorf("took %v", took)
	}
	switch closing := strings.HasSuffix(c.name, "Close"); {
	case closing && err == nil: // there may be nothing left to say
	case !slices.Contains(d.want, class):
		return "", fmt.Errorf("returned %s: %w", class, err)
	case d.from != "" && class != d.from:
		return "", fmt.Errorf("returned %s: %w; want %s", class, err, d.from)
	}

	// Others that come now are refused or can work with it; the owner can close.
	start = time.Now()
	if kind == ring.SPSC {
		_ = r.Close() // so that the roles are free
	}
	if other, err := ring.Open("d", ring.WithDir(dir)); err == nil {
		_ = other.Stats()
		_ = other.Participants()
		if p, err := other.NewProducer(); err == nil {
			_ = p.TrySend(nil)
		}
		if q, err := other.NewConsumer(); err == nil {
			for range 20 {
				if _, err = q.TryReceive(make([]byte, 64)); err != nil {
					break
				}
			}
		}
		_ = other.Close() // may say that the segment is damaged
	} else if s := classOf(err); s == "other" {
		return "", fmt.Errorf("open: %w", err)
	}
	_ = r.Close() // may say that the segment is damaged
	if took := time.Since(start); took > longest {
		return "", fmt.Errorf("those that came after took %v", took)
	}
	return class, os.Remove(path)
}

// Whatever happens to the file, calls return errors that a caller can tell, in bounded time, and never crash the process.
func TestDamagedSegmentsGiveTypedErrors(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for _, how := range []string{"truncate", "overwrite"} {
			t.Run(k.String()+"/"+how, func(t *testing.T) {
				t.Parallel()
				seed := rand.Uint64()
				p := proc.Start(t, []string{"damage", proc.Dir(t), k.String(), how, fmt.Sprint(seed)})
				lines := p.All()
				killed, code := p.Result()
				require.NotEmpty(t, lines)
				last := lines[len(lines)-1]
				require.Zero(t, code, "seed %d: %q, then signal %v: %s", seed, last, killed, p.Errors())
				require.Contains(t, last, "seen")
				t.Log(last)
				if how == "overwrite" {
					require.Contains(t, last, "corrupt:", "the damage has no effect")
				}
			})
		}
	}
}

// Calls that wait in other processes while the file is cut notice it.
func TestTruncationEndsBlockedCalls(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			for _, call := range []struct{ peer, prepare, wait string }{
				{"produce", "consume", "receive"}, {"produce", "consume", "next"}, {"consume", "produce", "send a b c"}, {"consume", "produce", "sendbatch a b c"},
			} {
				r, dir := newRing(t, ring.Options{Kind: k, Slots: 2})
				startRemote(t, dir, []string{call.peer})
				c := startRemote(t, dir, []string{call.prepare})
				c.Tell(call.wait)
				asleep(t, r, 0)
				require.NoError(t, os.Truncate(filepath.Join(dir, "q"), 0))
				start := time.Now()
				class, data := c.answer()
				require.Equal(t, "lost", class, "%s: %s", call.wait, data)
				require.Less(t, time.Since(start), proc.Notice)
				c.Kill()
			}
		})
	}
}

// Files that are no ring of this version are refused with what was found and what was expected, and are left as they are.
func TestForeignFilesAreRefused(t *testing.T) {
	t.Parallel()
	r, dir := newRing(t, ring.Options{Slots: 8})
	require.NoError(t, r.Close())
	sound, err := os.ReadFile(filepath.Join(dir, "q"))
	require.NoError(t, err)
	changed := func(f func(b []byte) []byte) []byte { return f(slices.Clone(sound)) }
	word := func(at int, v uint32) []byte {
		return changed(func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b })
	}
	for name, c := range map[string]struct {
		content []byte
		want    error
	}{
		"empty file":        {nil, ring.ErrNotSegment},
		"text":              {[]byte("#!/bin/sh\necho hello\n"), ring.ErrNotSegment},
		"long text":         {[]byte(strings.Repeat("all work and no play\n", 1000)), ring.ErrNotSegment},
		"zeros":             {make([]byte, len(sound)), ring.ErrNotSegment},
		"wrong magic":       {changed(func(b []byte) []byte { b[0] = 'm'; return b }), ring.ErrNotSegment},
		"header only":       {sound[:4096], ring.ErrCorrupt},
		"one byte short":    {sound[:len(sound)-1], ring.ErrCorrupt},
		"other version":     {word(12, 2), ring.ErrVersion},
		"other byte order":  {word(8, 0x0D0C0B0A), ring.ErrByteOrder},
		"other layout":      {word(16, 12345), ring.ErrLayout},
		"changed slots":     {word(80, 16), ring.ErrCorrupt},
		"changed checksum":  {word(248, 1), ring.ErrCorrupt},
		"never made ready":  {word(256, 0), ring.ErrCorrupt},
		"reserved not zero": {word(200, 1), ring.ErrCorrupt},
	} {
		path := filepath.Join(dir, "foreign")
		require.NoError(t, os.WriteFile(path, c.content, 0o600))
		for _, open := range []func() error{
			func() error { _, err := ring.Open("foreign", ring.WithDir(dir)); return err },
			func() error { _, err := ring.Open("foreign", ring.WithDir(dir), ring.ReadOnly()); return err },
			func() error { _, _, err := ring.OpenOrCreate("foreign", ring.Options{Dir: dir}); return err },
		} {
			err := open()
			require.ErrorIs(t, err, c.want, name)
			var format *ring.FormatError
			require.ErrorAs(t, err, &format, name)
			require.NotEmpty(t, format.Field, name)
			require.NotEqual(t, format.Got, format.Want, "%s: %v", name, err)
		}
		_, err := ring.Create("foreign", ring.Options{Dir: dir})
		require.ErrorIs(t, err, fs.ErrExist, name)
		left, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, len(c.content), len(left), name)
		require.True(t, string(c.content) == string(left), name)
		require.NoError(t, os.Remove(path))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder"), 0o700))
	_, err = ring.Open("folder", ring.WithDir(dir))
	require.Error(t, err)
	require.NoError(t, os.Symlink(filepath.Join(dir, "q"), filepath.Join(dir, "link")))
	_, err = ring.Open("link", ring.WithDir(dir))
	require.Error(t, err, "links are not followed")
}

// A full file system is an error of the creation that says the size, what is free and what to do; nothing is left of it, and no call dies later by SIGBUS.
func TestFullFileSystemIsAnErrorAtCreation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Skipf("a small tmpfs cannot be mounted here: %v", err)
	}
	// A process that another test has just forked holds our files until its exec, and the mount is busy for as long.
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return syscall.Unmount(dir, 0) == nil }, 10*time.Second, 10*time.Millisecond)
	})
	_, err := ring.Create("q", ring.Options{Dir: dir, Slots: 1024, SlotSize: 64 << 10})
	require.ErrorIs(t, err, syscall.ENOSPC)
	t.Log(err)
	require.Regexp(t, `(?i)\d+.*(free|available|left)`, err.Error())
	_, _, err = ring.OpenOrCreate("q", ring.Options{Dir: dir, Slots: 1024, SlotSize: 64 << 10})
	require.ErrorIs(t, err, syscall.ENOSPC)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	var fs syscall.Statfs_t
	require.NoError(t, syscall.Statfs(dir, &fs))
	require.GreaterOrEqual(t, int64(fs.Bfree)*fs.Bsize, int64(1<<20)-int64(16<<10), "the memory was not given back")

	r, err := ring.Create("q", ring.Options{Dir: dir, Slots: 64, SlotSize: 1024, Participants: 4})
	require.NoError(t, err)
	p, c := producerOf(t, r), consumerOf(t, r)
	// Whatever is free is taken by somebody else; the ring has its memory already.
	hog, err := os.Create(filepath.Join(dir, "hog"))
	require.NoError(t, err)
	for err == nil {
		_, err = hog.Write(make([]byte, 4096))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, hog.Close())
	for range 3 {
		for range 64 {
			require.NoError(t, p.TrySend(make([]byte, 1024)))
		}
		for range 64 {
			_, err = c.TryReceive(make([]byte, 1024))
			require.NoError(t, err)
		}
	}
	require.NoError(t, r.Close())
	require.NoError(t, ring.Remove("q", ring.WithDir(dir)))
}

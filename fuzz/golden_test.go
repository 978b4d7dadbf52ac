//go:build linux && (amd64 || arm64)

package fuzz

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

// Golden segments: golden/NAME.bin is the memory of a segment as somebody left it, golden/NAME.json what every reader must find in it. The
// files are made once, by the scenes, and never changed: go test ./fuzz -run TestGolden -update adds those that are missing.

var update = flag.Bool("update", false, "write the golden files that are missing")

const goldenDir = "golden"

// golden is the content of a JSON file; golden/README.md describes it for readers in other languages.
type golden struct {
	File    string   `json:"file"`
	About   string   `json:"about"`
	Size    int      `json:"size"`
	SHA256  string   `json:"sha256"`
	Refused *refusal `json:"refused,omitempty"`
	Only    string   `json:"only,omitempty"` // "header": there is nothing else in the file
	*Contents
	*Outcome
}

// refusal says why a reader must not open the file.
type refusal struct {
	Class string `json:"class"` // not_segment, byte_order, version, layout, corrupt
	Field string `json:"field"`
}

// Contents is what the bytes say, by the tables of docs/FORMAT.md alone.
type Contents struct {
	ID           string        `json:"id"`
	Header       fields        `json:"header"`
	Control      fields        `json:"control"`
	Participants []participant `json:"participants"`
	Entries      []entry       `json:"entries"`
	Accounts     []account     `json:"accounts"`
}

type fields map[string]uint64

type participant struct {
	ID   int    `json:"id"`
	Open string `json:"open"` // producer, consumer or none
	fields
}

// entry is one slot: its words, and what they mean.
type entry struct {
	Slot       uint64   `json:"slot"`
	State      uint64   `json:"state"`
	Length     uint64   `json:"length"`
	Kind       string   `json:"kind"` // none, free, claimed, ready, taken, done
	Position   uint64   `json:"position"`
	Sequence   uint64   `json:"sequence"`
	Owner      uint64   `json:"owner"`
	GivenBack  uint64   `json:"given_back"`
	Bytes      uint64   `json:"bytes"`
	LengthFlag []string `json:"length_flags"`
}

type account struct {
	Slot    uint64 `json:"slot"`
	Tag     uint64 `json:"tag"`
	Lost    uint64 `json:"lost"`
	Skipped uint64 `json:"skipped"`
}

// Outcome is what participants get out of the segment.
type Outcome struct {
	Stats      map[string]uint64 `json:"stats"`
	Unreleased []message         `json:"unreleased"`
	Receive    []message         `json:"receive"`
	End        string            `json:"end"` // eof, waiting, removed
	After      after             `json:"after"`
}

type message struct {
	Position   uint64 `json:"position"`
	Deliveries int    `json:"deliveries"`
	Payload    string `json:"payload"`
}

type after struct {
	Lost    uint64 `json:"lost"`
	Skipped uint64 `json:"skipped"`
}

// MarshalJSON puts the fields of the table beside id and open.
func (p participant) MarshalJSON() ([]byte, error) {
	all := map[string]any{"id": p.ID, "open": p.Open}
	for name, v := range p.fields {
		all[name] = v
	}
	return json.Marshal(all)
}

func goldenNames(t testing.TB) (names []string) {
	paths, err := filepath.Glob(filepath.Join(goldenDir, "*.json"))
	require.NoError(t, err)
	for _, p := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(p), ".json"))
	}
	require.NotEmpty(t, names)
	return names
}

func encodeGolden(t testing.TB, g golden) []byte {
	b, err := json.MarshalIndent(g, "", " ")
	require.NoError(t, err)
	return append(b, '\n')
}

// Every scene has its files, and makes the same segment each time that it is played.
func TestGoldenScenes(t *testing.T) {
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			g, mem := play(t, s)
			again, mem2 := play(t, s)
			require.True(t, bytes.Equal(mem, mem2), "the scene does not repeat itself")
			require.Equal(t, encodeGolden(t, g), encodeGolden(t, again))
			path := filepath.Join(goldenDir, s.name)
			if _, err := os.Stat(path + ".json"); err == nil || !*update {
				require.NoError(t, err, "make golden")
				return
			}
			require.NoError(t, os.WriteFile(path+".bin", mem, 0o644))
			require.NoError(t, os.WriteFile(path+".json", encodeGolden(t, g), 0o644))
		})
	}
}

// Every golden file, those of scenes that are played otherwise today included, still says what its JSON says.
func TestGoldenFiles(t *testing.T) {
	for _, name := range goldenNames(t) {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(goldenDir, name+".json"))
			require.NoError(t, err)
			mem, err := os.ReadFile(filepath.Join(goldenDir, name+".bin"))
			require.NoError(t, err)
			var g golden
			require.NoError(t, json.Unmarshal(text, &g))
			require.Equal(t, name+".bin", g.File)
			require.Equal(t, g.SHA256, sum(mem), "a golden file was changed")
			require.Len(t, mem, g.Size)
			if g.Refused != nil {
				requireRefused(t, mem, *g.Refused)
				return
			}
			c := describe(mem)
			if g.Only == "header" {
				h, err := layout.Decode(mem, int64(len(mem)))
				require.NoError(t, err)
				again := make([]byte, len(mem))
				h.Encode(again)
				again[layout.HeaderReady] = 1
				require.Equal(t, mem, again, "encoding the decoded header gives the same bytes")
			}
			g.Contents = &c
			require.Equal(t, string(text), string(encodeGolden(t, g)), "decoded differently")
			if g.Outcome != nil {
				requireOutcome(t, mem, *g.Outcome)
			}
		})
	}
}

func sum(mem []byte) string {
	s := sha256.Sum256(mem)
	return hex.EncodeToString(s[:])
}

// place puts a copy of a segment into a directory of its own, under the name q.
func place(t testing.TB, mem []byte) (dir string) {
	dir = t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "q"), mem, 0o600))
	return dir
}

var classes = map[string]error{
	"not_segment": ring.ErrNotSegment, "byte_order": ring.ErrByteOrder, "version": ring.ErrVersion, "layout": ring.ErrLayout, "corrupt": ring.ErrCorrupt,
}

func requireRefused(t testing.TB, mem []byte, want refusal) {
	dir := place(t, mem)
	for _, opts := range [][]ring.OpenOption{{ring.WithDir(dir)}, {ring.WithDir(dir), ring.ReadOnly()}} {
		_, err := ring.Open("q", opts...)
		var format *ring.FormatError
		require.ErrorAs(t, err, &format)
		require.ErrorIs(t, err, classes[want.Class])
		require.Equal(t, want.Field, format.Field)
	}
	list, err := seg.List(dir)
	require.NoError(t, err)
	for _, info := range list { // a file without the magic is none of its business
		require.ErrorIs(t, info.Err, classes[want.Class])
	}
	require.True(t, len(list) == 1 || want.Field == "magic")
}

// requireOutcome checks what a reader gets: first one that only looks, then one that receives.
func requireOutcome(t testing.TB, mem []byte, want Outcome) {
	dir := place(t, mem)
	look, err := ring.Open("q", ring.WithDir(dir), ring.ReadOnly())
	require.NoError(t, err)
	require.Equal(t, want.Stats, statsOf(t, look))
	seen := []message{}
	require.NoError(t, look.Peek(1<<20, func(position uint64, deliveries int, payload []byte) bool {
		seen = append(seen, message{position, deliveries, hex.EncodeToString(payload)})
		return true
	}))
	require.Equal(t, want.Unreleased, seen, "unreleased")
	for _, p := range look.Participants() {
		require.Equal(t, ring.Dead, p.State, "nobody holds a lock, so everybody is dead")
	}
	require.NoError(t, look.Close())
	now, err := os.ReadFile(filepath.Join(dir, "q"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(mem, now), "looking changes nothing")

	r, err := ring.Open("q", ring.WithDir(dir))
	require.NoError(t, err)
	if want.End == "removed" {
		_, err := r.NewConsumer()
		require.ErrorIs(t, err, ring.ErrSegmentLost)
		require.NoError(t, r.Close())
		return
	}
	_, err = r.Recover(false)
	require.NoError(t, err)
	s := r.Stats()
	require.Equal(t, want.After, after{s.Lost, s.Skipped}, "settled by Recover")
	now, err = os.ReadFile(filepath.Join(dir, "q"))
	require.NoError(t, err)
	require.Zero(t, get64(now, layout.ControlOffset+layout.ControlJournal), "the journal is left over")
	got, end := drain(t, r)
	require.Equal(t, want.Receive, got, "received")
	require.Equal(t, want.End, end)
	s = r.Stats()
	require.Equal(t, want.After, after{s.Lost, s.Skipped})
	require.Zero(t, s.Used)
	lap(t, r)
	require.NoError(t, r.Close())
	require.NoError(t, ring.Remove("q", ring.WithDir(dir), ring.IfDrained()))
}

// statsOf returns the statistics under the names that the JSON has.
func statsOf(t testing.TB, r *ring.Ring) (s map[string]uint64) {
	b, err := json.Marshal(r.Stats())
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &s))
	return s
}

// drain receives everything, and returns it in the order of positions, and how the stream ends. What comes for the first time must come in order.
func drain(t testing.TB, r *ring.Ring) (got []message, end string) {
	q, err := r.NewConsumer()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	buf := make([]byte, r.MaxMessage())
	got = []message{}
	ever := r.Stats().ProducersEver > 0
	for last := uint64(0); ; {
		var n int
		if ever {
			n, err = q.Receive(ctx, buf)
		} else {
			n, err = q.TryReceive(buf)
		}
		if err != nil {
			break
		}
		d := q.Last()
		got = append(got, message{d.Position, d.Deliveries, hex.EncodeToString(buf[:n])})
		if d.Deliveries == 1 {
			require.True(t, last == 0 || int64(d.Position-last) > 0, "position %d after %d", d.Position, last)
			last = d.Position
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		end = "eof"
	case errors.Is(err, ring.ErrEmpty):
		end = "waiting"
	default:
		require.NoError(t, err)
	}
	require.NoError(t, q.Close())
	slices.SortFunc(got, func(a, b message) int { return int(int64(a.Position - b.Position)) })
	return got, end
}

// lap sends and receives three laps, to see that every slot of the ring is of use again.
func lap(t testing.TB, r *ring.Ring) {
	if s := r.Stats(); s.ProducersEver == 0 {
		return // it would no longer be one that waits for its first producer
	}
	p, err := r.NewProducer()
	if errors.Is(err, ring.ErrMismatch) {
		return // typed
	}
	require.NoError(t, err)
	q, err := r.NewConsumer()
	require.NoError(t, err)
	buf := make([]byte, r.MaxMessage())
	for i := range 3 * r.Options().Slots {
		msg := []byte(fmt.Sprint("lap ", i))
		msg = msg[:min(len(msg), r.MaxMessage())]
		require.NoError(t, p.TrySend(msg), "message %d: %+v", i, r.Stats())
		n, err := q.TryReceive(buf)
		require.NoError(t, err)
		require.Equal(t, msg, buf[:n])
	}
	require.NoError(t, p.Close())
	require.NoError(t, q.Close())
}

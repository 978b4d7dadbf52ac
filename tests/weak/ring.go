package weak

import "fmt"

// State words, as in FORMAT 5.1, with small fields: kind, owner, times given back, sequence.
const (
	wFree int32 = iota + 1
	wClaimed
	wReady
	wTaken
	wDone
)

func pack(kind, owner, r int32, seq int) int32 { return kind<<24 | owner<<20 | r<<16 | int32(seq) }

func free(p int) int32           { return pack(wFree, 0, 0, p) }
func claimed(e, me int) int32    { return pack(wClaimed, int32(me), 0, e) }
func ready(e int, r int32) int32 { return pack(wReady, 0, r, e) }
func taken(e, me int, r int32) int32 {
	return pack(wTaken, int32(me), r, e)
}
func done(e, me int) int32 { return pack(wDone, int32(me), 0, e) }

func kind(w int32) int32  { return w >> 24 }
func owner(w int32) int   { return int(w >> 20 & 15) }
func given(w int32) int32 { return w >> 16 & 15 }
func seq(w int32) int     { return int(w & 0xffff) }

// word shows a value: a state word, or a number.
func word(w int32) string {
	if k := kind(w); k >= wFree && k <= wDone {
		return fmt.Sprintf("%s %d owner %d r %d", [...]string{"", "FREE", "CLAIMED", "READY", "TAKEN", "DONE"}[k], seq(w), owner(w), given(w))
	}
	return fmt.Sprint(w)
}

// builder puts a program together.
type builder struct{ Program }

func (b *builder) loc(name string, value int32) Loc {
	b.Names = append(b.Names, name)
	b.Initial = append(b.Initial, value)
	if len(b.Initial) > maxLocs {
		panic("too many locations")
	}
	return Loc(len(b.Initial) - 1)
}

func (b *builder) cell(value int32) Cell {
	b.Cells = append(b.Cells, value)
	return Cell(len(b.Cells) - 1)
}

// thread adds a thread and returns its number.
func (b *builder) thread(f func(*T)) int {
	b.Threads = append(b.Threads, f)
	return len(b.Threads) - 1
}

// mortal adds a thread that may die.
func (b *builder) mortal(f func(*T)) int {
	i := b.thread(f)
	b.Mortal = append(b.Mortal, i)
	return i
}

// ring is the memory of a ring: the parts that a program needs. Without payload it has state words only.
type ring struct {
	n       int
	words   []Loc
	lengths []Loc
	cells   []Cell
	hints   bool
	pp, cp  Loc // producer_position, consumer_position
	returns Loc
	rescues bool // consumers look for what was given back
}

// ring makes a ring whose slots have the given state words. A word READY has the message 10 + slot in its slot.
func (b *builder) ring(payload bool, words ...int32) *ring {
	g := &ring{n: len(words)}
	for i, w := range words {
		g.words = append(g.words, b.loc(fmt.Sprintf("S%d", i), w))
		if !payload {
			continue
		}
		id := int32(0)
		if kind(w) == wReady || kind(w) == wTaken {
			id = 10 + int32(i)
		}
		g.lengths = append(g.lengths, b.loc(fmt.Sprintf("L%d", i), length(id, 1)))
		g.cells = append(g.cells, b.cell(id))
	}
	return g
}

// withHints gives the ring its two positions.
func (g *ring) withHints(b *builder, producer, consumer int) *ring {
	g.hints = true
	g.pp, g.cp = b.loc("producer_position", int32(producer)), b.loc("consumer_position", int32(consumer))
	return g
}

// withReturns gives the ring its generation of give-backs.
func (g *ring) withReturns(b *builder) *ring {
	g.rescues = true
	g.returns = b.loc("returns", 0)
	return g
}

func (g *ring) s(p int) Loc { return g.words[p%g.n] }

// length is a length word: of message id in k slots. Real ones hold bytes; the id shows a stale one.
func length(id int32, k int) int32 { return id<<4 | int32(k) }

// head returns the head position of the word w in the slot of p (FORMAT 5.1).
func (g *ring) head(w int32, p int) int {
	if kind(w) == wFree {
		return seq(w)
	}
	e := seq(w)
	return e - 1 - ((e-1-p%g.n)%g.n+g.n)%g.n
}

// beyond returns the next candidate when a word with head h says that p was passed (I5).
func (g *ring) beyond(w int32, p, h int) int {
	if kind(w) == wFree {
		h -= g.n
	}
	return max(p+1, h-g.n+1)
}

package weak

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The classic litmus programs, with the outcomes that C11 allows and forbids. x and y are 0 at first.

const (
	x, y       Loc = 0, 1
	ra, wr, rl     = "acq", "rel", "rlx"
)

// puts and gets make threads.
func puts(row string, at Loc, v int32) func(*T) { return func(t *T) { t.Store(row, at, v) } }

func gets(row string, at ...Loc) func(*T) {
	return func(t *T) {
		for _, x := range at {
			t.Report(t.Load(row, x))
		}
	}
}

func then(steps ...func(*T)) func(*T) {
	return func(t *T) {
		for _, f := range steps {
			f(t)
		}
	}
}

func fence(row string) func(*T) { return func(t *T) { t.Fence(row) } }

func adds(row string, at Loc) func(*T) { return func(t *T) { t.Report(t.Add(row, at, 1)) } }

func TestLitmus(t *testing.T) {
	for _, c := range []struct {
		name      string
		threads   []func(*T)
		allowed   []string
		forbidden []string
	}{
		{"MP rel acq", []func(*T){then(puts(rl, x, 1), puts(wr, y, 1)), gets(ra, y, x)}, []string{"[[] [1 1]]", "[[] [0 1]]", "[[] [0 0]]"}, []string{"[[] [1 0]]"}},
		{"MP rlx acq", []func(*T){then(puts(rl, x, 1), puts(rl, y, 1)), gets(ra, y, x)}, []string{"[[] [1 0]]"}, nil},
		{"MP rel rlx", []func(*T){then(puts(rl, x, 1), puts(wr, y, 1)), gets(rl, y, x)}, []string{"[[] [1 0]]"}, nil},
		{"MP fences", []func(*T){then(puts(rl, x, 1), fence("rel"), puts(rl, y, 1)), then(gets(rl, y), fence("acq"), gets(rl, x))}, nil, []string{"[[] [1 0]]"}},
		{"MP fence rel only", []func(*T){then(puts(rl, x, 1), fence("rel"), puts(rl, y, 1)), gets(rl, y, x)}, []string{"[[] [1 0]]"}, nil},
		{"SB rel acq", []func(*T){then(puts(wr, x, 1), gets(ra, y)), then(puts(wr, y, 1), gets(ra, x))}, []string{"[[0] [0]]", "[[1] [1]]"}, nil},
		{"SB sc", []func(*T){then(puts("sc", x, 1), gets("sc", y)), then(puts("sc", y, 1), gets("sc", x))}, []string{"[[0] [1]]"}, []string{"[[0] [0]]"}},
		{"SB one load acq", []func(*T){then(puts("sc", x, 1), gets("sc", y)), then(puts("sc", y, 1), gets(ra, x))}, []string{"[[0] [0]]"}, nil},
		{"SB fences", []func(*T){then(puts(rl, x, 1), fence("sc"), gets(rl, y)), then(puts(rl, y, 1), fence("sc"), gets(rl, x))}, nil, []string{"[[0] [0]]"}},
		{"SB one fence", []func(*T){then(puts(rl, x, 1), fence("sc"), gets(rl, y)), then(puts(rl, y, 1), gets(rl, x))}, []string{"[[0] [0]]"}, nil},
		{"SB fences acqrel", []func(*T){then(puts(rl, x, 1), fence("acqrel"), gets(rl, y)), then(puts(rl, y, 1), fence("acqrel"), gets(rl, x))}, []string{"[[0] [0]]"}, nil},
		{"SB rmw acqrel", []func(*T){then(adds("acqrel", x), gets(ra, y)), then(adds("acqrel", y), gets(ra, x))}, []string{"[[0 0] [0 0]]"}, nil},
		{"SB membarrier", []func(*T){then(puts(wr, x, 1), gets(ra, y)), then(puts(rl, y, 1), func(t *T) { t.Membarrier("sc") }, gets(ra, x))}, nil, []string{"[[0] [0]]"}},
		// LB: C11 allows [[1] [1]] here, this machine does not (see the package comment).
		{"LB rlx", []func(*T){then(gets(rl, x), puts(rl, y, 1)), then(gets(rl, y), puts(rl, x, 1))}, []string{"[[0] [1]]"}, []string{"[[1] [1]]"}},
		{"LB acq", []func(*T){then(gets(ra, x), puts(rl, y, 1)), then(gets(ra, y), puts(rl, x, 1))}, []string{"[[0] [1]]"}, []string{"[[1] [1]]"}},
		{"IRIW acq", []func(*T){puts(wr, x, 1), puts(wr, y, 1), gets(ra, x, y), gets(ra, y, x)}, []string{"[[] [] [1 0] [1 0]]"}, nil},
		{"IRIW sc", []func(*T){puts("sc", x, 1), puts("sc", y, 1), gets("sc", x, y), gets("sc", y, x)}, nil, []string{"[[] [] [1 0] [1 0]]"}},
		{"IRIW fences", []func(*T){puts(rl, x, 1), puts(rl, y, 1), then(gets(rl, x), fence("sc"), gets(rl, y)), then(gets(rl, y), fence("sc"), gets(rl, x))}, nil,
			[]string{"[[] [] [1 0] [1 0]]"}},
		{"CoRR", []func(*T){puts(rl, x, 1), gets(rl, x, x)}, []string{"[[] [0 1]]"}, []string{"[[] [1 0]]"}},
		{"CoRR two writers", []func(*T){puts(rl, x, 1), puts(rl, x, 2), gets(rl, x, x), gets(rl, x, x)}, []string{"[[] [] [1 2] [1 2]]", "[[] [] [2 1] [2 1]]"},
			[]string{"[[] [] [1 2] [2 1]]"}},
		{"CoWR", []func(*T){then(puts(rl, x, 1), gets(rl, x)), puts(rl, x, 2)}, []string{"[[1] []]", "[[2] []]"}, []string{"[[0] []]"}},
		{"CoRW", []func(*T){then(gets(rl, x), puts(rl, x, 2)), then(puts(rl, x, 1), gets(rl, x, x))}, []string{"[[1] [1 2]]"}, []string{"[[1] [2 1]]"}},
		{"WRC acq", []func(*T){puts(rl, x, 1), then(gets(ra, x), puts(wr, y, 1)), gets(ra, y, x)}, nil, []string{"[[] [1] [1 0]]"}},
		{"WRC rlx", []func(*T){puts(rl, x, 1), then(gets(rl, x), puts(rl, y, 1)), gets(ra, y, x)}, []string{"[[] [1] [1 0]]"}, nil},
		{"S", []func(*T){then(puts(rl, x, 2), puts(wr, y, 1)), then(gets(ra, y), puts(rl, x, 1), gets(rl, x))}, nil, []string{"[[] [1 2]]"}},
		{"release sequence by rmw", []func(*T){then(puts(rl, x, 1), puts(wr, y, 1)), adds(rl, y), gets(ra, y, x)}, nil, []string{"[[] [1] [2 0]]"}},
		{"no release sequence by store", []func(*T){then(puts(rl, x, 1), puts(wr, y, 1), puts(rl, y, 2)), gets(ra, y, x)}, []string{"[[] [2 0]]"}, nil},
		{"rmw sees the last", []func(*T){adds(rl, x), adds(rl, x)}, []string{"[[0] [1]]", "[[1] [0]]"}, []string{"[[0] [0]]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Explore(&Program{Initial: []int32{0, 0}, Threads: c.threads}, Orders{})
			require.Empty(t, r.Violates)
			require.Zero(t, r.Cut)
			for _, o := range c.allowed {
				require.Contains(t, r.Outcomes, o)
			}
			for _, o := range c.forbidden {
				require.NotContains(t, r.Outcomes, o)
			}
		})
	}
}

// final says which last values of x and y a program can leave.
func final(threads ...func(*T)) map[[2]int32]bool {
	ends := map[[2]int32]bool{}
	Explore(&Program{Initial: []int32{0, 0}, Threads: threads, Check: func(e *End) string {
		ends[[2]int32{e.Last[0], e.Last[1]}] = true
		return ""
	}}, Orders{})
	return ends
}

func TestWritesInTwoOrders(t *testing.T) {
	two := func(row string) map[[2]int32]bool {
		return final(then(puts(row, x, 1), puts(row, y, 2)), then(puts(row, y, 1), puts(row, x, 2)))
	}
	require.Contains(t, two("rlx"), [2]int32{1, 1}, "2+2W")
	require.Contains(t, two("rel"), [2]int32{1, 1}, "2+2W")
	require.NotContains(t, two("sc"), [2]int32{1, 1}, "2+2W")
}

func TestRacesAreFound(t *testing.T) {
	pass := func(put, get string) Result {
		return Explore(&Program{Initial: []int32{0}, Cells: []int32{0}, Threads: []func(*T){
			func(t *T) { t.Write(0, 7); t.Store(put, x, 1) },
			func(t *T) {
				if t.Load(get, x) == 1 && t.Read(0) != 7 {
					t.Fail("old payload")
				}
			},
		}}, Orders{})
	}
	require.Empty(t, pass("rel", "acq").Violates)
	require.Contains(t, pass("rlx", "acq").Violates, "race")
	require.Contains(t, pass("rel", "rlx").Violates, "race")

	reuse := func(put string) Result { // a reader hands the payload back: the load that would be delayed past the store
		return Explore(&Program{Initial: []int32{0}, Cells: []int32{7}, Threads: []func(*T){
			func(t *T) { t.Peek(0); t.Confirm(true); t.Store(put, x, 1) },
			func(t *T) {
				if t.Load("acq", x) == 1 {
					t.Write(0, 8)
				}
			},
		}}, Orders{})
	}
	require.Empty(t, reuse("rel").Violates)
	require.Contains(t, reuse("rlx").Violates, "before it was read")
}

// TestDeathCutsProgramOrder: a relaxed store may have come before an earlier store that the death undoes; a release store may not.
func TestDeathCutsProgramOrder(t *testing.T) {
	cut := func(row string) map[[2]int32]bool {
		ends := map[[2]int32]bool{}
		Explore(&Program{Initial: []int32{0, 0}, Mortal: []int{0}, Threads: []func(*T){
			then(puts("rel", x, 1), puts(row, y, 1), gets("rlx", y)),
			func(t *T) { t.Proof(0); t.Report(t.Load("rlx", x)); t.Report(t.Load("rlx", y)) },
		}, Check: func(e *End) string {
			if e.Dead[0] {
				ends[[2]int32{e.Results[1][0], e.Results[1][1]}] = true
			}
			return ""
		}}, Orders{})
		return ends
	}
	require.Equal(t, map[[2]int32]bool{{0, 0}: true, {1, 0}: true, {1, 1}: true}, cut("rel"))
	require.Contains(t, cut("rlx"), [2]int32{0, 1})
}

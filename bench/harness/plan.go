package harness

import (
	"fmt"
	"slices"
	"time"

	"github.com/cd1900cf/millrace/bench/mech"
)

// Row is one line of the plan: some work, and who does it.
type Row struct {
	Name  string
	Args  mech.Args
	Mechs []string
	For   time.Duration // one run should take so long; 0: the count is fixed

	Seldom int // only every so manieth round; it takes long
}

const defaultSlots = 1024

var (
	spsc = []string{"millrace-spsc", "millrace-spsc-unguarded", "millrace-c-spsc", "bare-go", "vyukov-go", "boost-spsc", "rte-sp", "ck-spsc",
		"moodycamel-spsc", "xsync-spsc", "go-channel"}
	batched = []string{"millrace-spsc", "millrace-spsc-unguarded", "millrace-mpmc", "millrace-mpmc-unguarded", "millrace-c-spsc", "millrace-c-mpmc", "boost-spsc", "rte-sp", "rte-mp", "moodycamel-mpmc"}
	typed   = []string{"millrace-spsc-typed", "millrace-spsc-typed-unguarded", "millrace-mpmc-typed", "millrace-mpmc-typed-unguarded", "millrace-c-spsc", "boost-spsc", "rte-sp"}
	mpmc    = []string{"millrace-mpmc", "millrace-mpmc-unguarded", "millrace-c-mpmc", "vyukov-go", "rte-mp", "rte-rts", "rte-hts", "ck-mpmc",
		"moodycamel-mpmc", "xsync-mpmc", "go-channel"}
	crawling = []string{"rte-mp", "ck-mpmc"} // with more workers than cores: who is preempted between two stores stops all others for a time slice
	kernel   = []string{"millrace-spsc", "millrace-mpmc", "pipe", "unix-stream", "unix-seqpacket", "posix-mq", "boost-mq", "zeromq", "iceoryx"}
	free     = []string{"millrace-spsc", "millrace-mpmc", "bare-go", "vyukov-go", "rte-sp", "rte-mp"}
	trips    = []string{"millrace-spsc", "millrace-spsc-unguarded", "millrace-mpmc", "millrace-mpmc-unguarded", "millrace-c-spsc", "millrace-c-mpmc", "bare-go", "vyukov-go", "boost-spsc", "rte-sp", "rte-mp",
		"ck-spsc", "moodycamel-spsc", "iceoryx", "go-channel"}
	wakes  = []string{"millrace-spsc", "millrace-mpmc", "millrace-c-spsc", "millrace-c-mpmc", "pipe", "eventfd", "unix-seqpacket", "posix-mq", "boost-mq", "zeromq"}
	steady = []string{"clock", mech.LaterClock, "millrace-spsc", "millrace-spsc-unguarded", "millrace-mpmc", "millrace-c-spsc", "bare-go", "vyukov-go", "boost-spsc", "rte-sp", "rte-mp", "ck-spsc"}
	large  = []string{"millrace-spsc-zerocopy", "millrace-spsc-zerocopy-unguarded", "millrace-mpmc-zerocopy", "millrace-mpmc-zerocopy-unguarded",
		"millrace-spsc", "millrace-c-spsc", "millrace-c-spsc-zerocopy", "millrace-c-mpmc-zerocopy", "bare-go", "memcpy", "unix-stream", "pipe", "iceoryx"}
	idlers  = []string{"millrace-spsc", "millrace-mpmc", "millrace-c-spsc", "pipe", "zeromq", "rte-sp"}
	growing = []string{"millrace-spsc", "millrace-spsc-unguarded", "millrace-mpmc", "millrace-mpmc-unguarded", "millrace-c-spsc", "millrace-c-mpmc", "memcpy-128", "vyukov-go", "rte-mp"}
	only    = []string{"millrace-mpmc"}
)

// Plan is all that is measured, in its order.
func Plan() []Row {
	var rows []Row
	row := func(name string, sizes []int, mechs []string, set func(r *Row)) {
		for _, size := range sizes {
			r := Row{Name: fmt.Sprintf("%s/size=%d", name, size), Mechs: mechs, For: 60 * time.Millisecond}
			r.Args = mech.Args{Work: "stream", Senders: 1, Receivers: 1, Count: 20_000, Size: size, Batch: 1, Slots: defaultSlots}
			if set != nil {
				set(&r)
			}
			rows = append(rows, r)
		}
	}
	row("SPSC", []int{8, 64, 256}, spsc, nil)
	row("Batch32", []int{8, 64, 256}, batched, func(r *Row) { r.Args.Batch = 32 })
	row("Typed32", []int{8}, typed, func(r *Row) { r.Args.Batch = 32 })
	row("MPMC/pairs=1", []int{8, 64}, mpmc, nil)
	for _, n := range []int{2, 8} {
		row(fmt.Sprint("MPMC/pairs=", n), []int{8, 64}, without(mpmc, crawling), pairs(n))
	}
	row("Unpinned", []int{64}, free, func(r *Row) { r.Args.Core = -1 })
	row("Kernel", []int{64}, kernel, nil)
	row("RoundTrip", []int{8, 64}, trips, func(r *Row) { r.Args.Work, r.Args.Count = "rtt", 2_000 })
	row("Wake", []int{64}, wakes, func(r *Row) {
		r.Args.Work, r.Args.Pause, r.Args.Count, r.For = "rtt", time.Millisecond, 100, 0
	})
	row("OpenLoop/rate=1000000", []int{64}, steady, func(r *Row) {
		r.Args.Work, r.Args.Rate, r.Args.Count, r.For = "open", 1_000_000, 1_000_000, 0
	})
	row("OpenLoop/rate=50000", []int{64}, kernel, func(r *Row) {
		r.Args.Work, r.Args.Rate, r.Args.Count, r.For = "open", 50_000, 10_000, 0
	})
	row("Large", []int{4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20}, large, func(r *Row) { r.Args.Count = 64 << 20 / r.Args.Size })
	row("Idle", []int{64}, idlers, func(r *Row) {
		r.Args.Work, r.Args.Pause, r.Args.Count, r.For = "idle", 3*time.Second, 1, 0
		r.Seldom = 4
	})
	for _, n := range []int{64, 1 << 10, 1 << 14, 1 << 20} {
		row(fmt.Sprint("Growth/slots=", n), []int{64}, growing, func(r *Row) { r.Args.Slots = n })
	}
	for _, n := range []int{0, 14, 254} {
		row(fmt.Sprint("Growth/registered=", n+2), []int{64}, only, func(r *Row) { r.Args.Extra = n })
	}
	for _, n := range []int{32, 128} {
		row(fmt.Sprint("Growth/pairs=", n), []int{64}, []string{"millrace-mpmc", "vyukov-go"}, func(r *Row) {
			pairs(n)(r)
			r.Seldom = 4
		})
	}
	return rows
}

// pairs makes n senders and n receivers; the scheduler places them when there are more than cores.
func pairs(n int) func(r *Row) {
	return func(r *Row) { r.Args.Senders, r.Args.Receivers, r.Args.Core = n, n, -1 }
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(m string) bool { return slices.Contains(some, m) })
}

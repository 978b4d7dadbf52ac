package harness

import (
	"fmt"
	"time"

	"github.com/cd1900cf/millrace/bench/mech"
)

// Row is one line of the plan: some work, and who does it.
type Row struct {
	Name  string
	Args  mech.Args
	Mechs []string
	For   time.Duration // one run should take so long; 0: the count is fixed
}

// Key names a row with what it depends on, and is unique.
func (r *Row) Key() string { return r.Name }

const defaultSlots = 1024

// rows for each size.
func bySize(name string, sizes []int, mechs []string, set func(a *mech.Args)) (rows []Row) {
	for _, size := range sizes {
		r := Row{Name: fmt.Sprintf("%s/size=%d", name, size), Mechs: mechs, For: 60 * time.Millisecond}
		r.Args = mech.Args{Work: "stream", Senders: 1, Receivers: 1, Count: 20_000, Size: size, Batch: 1, Slots: defaultSlots}
		if set != nil {
			set(&r.Args)
		}
		rows = append(rows, r)
	}
	return rows
}

var (
	spsc      = []string{"millrace-spsc", "millrace-spsc-unguarded", "bare-go", "vyukov-go", "boost-spsc", "rte-sp", "ck-spsc", "moodycamel-spsc"}
	spscBatch = []string{"millrace-spsc", "boost-spsc", "rte-sp", "millrace-mpmc", "rte-mp", "moodycamel-mpmc"}
	mpmc      = []string{"millrace-mpmc", "millrace-mpmc-unguarded", "vyukov-go", "rte-mp", "rte-rts", "rte-hts", "ck-mpmc", "moodycamel-mpmc"}
)

// Plan is all that is measured, in its order.
func Plan() []Row {
	var rows []Row
	add := func(r []Row) { rows = append(rows, r...) }
	add(bySize("SPSC", []int{8, 64, 256}, spsc, nil))
	add(bySize("Batch32", []int{8, 64, 256}, spscBatch, func(a *mech.Args) { a.Batch = 32 }))
	add(bySize("Typed32", []int{8}, []string{"millrace-spsc-typed", "millrace-mpmc-typed"}, func(a *mech.Args) { a.Batch = 32 }))
	for _, n := range []int{1, 2, 8} {
		add(bySize(fmt.Sprintf("MPMC/pairs=%d", n), []int{8, 64}, mpmc, func(a *mech.Args) {
			a.Senders, a.Receivers = n, n
			if n > 1 {
				a.Core = -1
			}
		}))
	}
	return rows
}

package weak

import "strings"

// Orders gives every row of docs/ORDERING.md its order: the one that its name ends in, unless a mutant has lowered it.
type Orders struct {
	Lowered map[string]Order
	Dropped string          // a row whose stores do nothing, or a look that is left out
	used    map[string]bool // rows that were asked for, if anybody wants to know
	drops   map[string]bool // steps that could be left out
}

var orderNames = map[string]Order{"rlx": Rlx, "acq": Acq, "rel": Rel, "acqrel": AcqRel, "sc": SC}

// of returns the order of a row, which is called by its tag and order, "P3 acqrel".
func (o Orders) of(row string) Order {
	if o.used != nil {
		o.used[row] = true
	}
	if low, ok := o.Lowered[row]; ok {
		return low
	}
	return written(row)
}

// written returns the order in the name of a row.
func written(row string) Order {
	name := strings.TrimSuffix(row, " REQUIRED")
	order, ok := orderNames[name[strings.LastIndex(name, " ")+1:]]
	if !ok {
		panic("no order in " + row)
	}
	return order
}

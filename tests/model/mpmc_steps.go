package model

// pc names the next step of a process.
type pc uint8

const (
	finished pc = iota
	p0
	p1
	p2
	p2again
	p3
	p4
	p5
	p6
	p7
	c0
	c1
	c2
	c2empty
	c3
	c4
	c5
	c6
	c8
	l2batch
	l2
	l3
	l3rest
	l3part
	l3free
	l4
	r1
	r2
	r3
	r4
	a1
	a2
	a3
	v1
	v1late
	v2
	v3free
	v3head
	v3counted
	v3length
	v3again
	v3back
	v3lost
	v4
	v6
	v7
	w1
	w4
	asleep
	b1
	n1
	n2
	n2wake
	n3
)

var steps = [...]struct {
	name string
	do   func(*turn)
}{
	finished:  {"end", func(t *turn) { t.blocked = true }},
	p0:        {"P0", (*turn).p0},
	p1:        {"P1", (*turn).p1},
	p2:        {"P2", (*turn).p2},
	p2again:   {"P2 again", (*turn).p2again},
	p3:        {"P3", (*turn).p3},
	p4:        {"P4", (*turn).p4},
	p5:        {"P5", (*turn).p5},
	p6:        {"P6", (*turn).p6},
	p7:        {"P7", (*turn).p7},
	c0:        {"C0", (*turn).c0},
	c1:        {"C1", (*turn).c1},
	c2:        {"C2", (*turn).c2},
	c2empty:   {"C2 empty", (*turn).c2empty},
	c3:        {"C3", (*turn).c3},
	c4:        {"C4", (*turn).c4},
	c5:        {"C5", (*turn).c5},
	c6:        {"C6", (*turn).c6},
	c8:        {"C8 scan", (*turn).c8},
	l2batch:   {"L2 batch", (*turn).l2batch},
	l2:        {"L2", (*turn).l2},
	l3:        {"L3", (*turn).l3},
	l3rest:    {"L3 rest", (*turn).l3rest},
	l3part:    {"L3 part", (*turn).l3part},
	l3free:    {"L3 free", (*turn).l3free},
	l4:        {"L4", (*turn).l4},
	r1:        {"R1", (*turn).r1},
	r2:        {"R2", (*turn).r2},
	r3:        {"R3", (*turn).r3},
	r4:        {"R4", (*turn).r4},
	a1:        {"A1", (*turn).a1},
	a2:        {"A2", (*turn).a2},
	a3:        {"A3", (*turn).a3},
	v1:        {"V1", (*turn).v1},
	v1late:    {"V1 late", (*turn).v1late},
	v2:        {"V2", (*turn).v2},
	v3free:    {"V3 free", (*turn).v3free},
	v3head:    {"V3 head", (*turn).v3head},
	v3counted: {"V3 counted", (*turn).v3counted},
	v3length:  {"V3 length", (*turn).v3length},
	v3again:   {"V3 again", (*turn).v3again},
	v3back:    {"V3 back", (*turn).v3back},
	v3lost:    {"V3 lost", (*turn).v3lost},
	v4:        {"V4", (*turn).v4},
	v6:        {"V6", (*turn).v6},
	v7:        {"V7", (*turn).v7},
	w1:        {"W1", (*turn).w1},
	w4:        {"W4", (*turn).w4},
	asleep:    {"asleep", (*turn).sleep},
	b1:        {"B1", (*turn).b1},
	n1:        {"N1", (*turn).n1},
	n2:        {"N2", (*turn).n2},
	n2wake:    {"N2 wake", (*turn).n2wake},
	n3:        {"N3", (*turn).n3},
}

package model

// spscPC names the next step of a process.
type spscPC uint8

const (
	sEnd spscPC = iota
	s1
	s1exact
	s2
	s2reserve
	s3
	s4
	s5clear
	s5
	s6
	t1
	t3
	t3length
	t3pad
	t4
	t5
	d1
	d2
	d2pad
	d2length
	d2end
	d3
	d4
	d5
	d6
	le
	leLate
	lr
	k1
	k2
	j4length
	j4word
	j1
	jLost
	j2
	jDrop
	j3
	j5
)

var spscSteps = [...]struct {
	name string
	do   func(*spscTurn)
}{
	sEnd:      {"end", func(t *spscTurn) { t.blocked = true }},
	s1:        {"S1", (*spscTurn).s1},
	s1exact:   {"S1 exact", (*spscTurn).s1exact},
	s2:        {"S2", (*spscTurn).s2},
	s2reserve: {"S2 reserve", (*spscTurn).s2reserve},
	s3:        {"S3", (*spscTurn).s3},
	s4:        {"S4", (*spscTurn).s4},
	s5clear:   {"S5 clear", (*spscTurn).s5clear},
	s5:        {"S5", (*spscTurn).s5},
	s6:        {"S6", (*spscTurn).s6},
	t1:        {"T1", (*spscTurn).t1},
	t3:        {"T3", (*spscTurn).t3},
	t3length:  {"T3 length", (*spscTurn).t3length},
	t3pad:     {"T3 pad", (*spscTurn).t3pad},
	t4:        {"T4", (*spscTurn).t4},
	t5:        {"T5", (*spscTurn).t5},
	d1:        {"D1", (*spscTurn).d1},
	d2:        {"D2", (*spscTurn).d2},
	d2pad:     {"D2 pad", (*spscTurn).d2pad},
	d2length:  {"D2 length", (*spscTurn).d2length},
	d2end:     {"D2 end", (*spscTurn).d2end},
	d3:        {"D3", (*spscTurn).d3},
	d4:        {"D4", (*spscTurn).d4},
	d5:        {"D5", (*spscTurn).d5},
	d6:        {"D6", (*spscTurn).d6},
	le:        {"LE", (*spscTurn).le},
	leLate:    {"LE late", (*spscTurn).leLate},
	lr:        {"LR", (*spscTurn).lr},
	k1:        {"K1", (*spscTurn).k1},
	k2:        {"K2", (*spscTurn).k2},
	j4length:  {"J4 length", (*spscTurn).j4length},
	j4word:    {"J4 word", (*spscTurn).j4word},
	j1:        {"J1", (*spscTurn).j1},
	jLost:     {"11.3", (*spscTurn).jLost},
	j2:        {"J2", (*spscTurn).j2},
	jDrop:     {"drop", (*spscTurn).jDrop},
	j3:        {"J3", (*spscTurn).j3},
	j5:        {"J5", (*spscTurn).j5},
}

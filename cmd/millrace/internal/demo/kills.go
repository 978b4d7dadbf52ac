package demo

import "time"

// kill is one SIGKILL, and when the work of the killed process went on.
type kill struct {
	role      string
	index     int
	successor int // its incarnation
	at        time.Time
	again     time.Time // consumers: when the last message that it had held came again
	resumed   time.Time // when its successor's first message came
	spared    bool      // the process had ended before the signal came
}

// kills remembers every kill.
type kills struct {
	all     []kill
	waiting []int // those whose successor has not done anything yet
	last    int   // + 1: the last consumer's; 0: none
}

// add notes that a process is about to be killed, or was, and returns the number of the kill.
func (k *kills) add(role string, index, successor int, at time.Time) int {
	k.all = append(k.all, kill{role: role, index: index, successor: successor, at: at})
	n := len(k.all) - 1
	k.waiting = append(k.waiting, n)
	if role == roleConsumer {
		k.last = n + 1
	}
	return n
}

// note sees whose work goes on with this report. What comes again was held by the consumer that was killed last, as far as can
// be told.
func (k *kills) note(s *source, r *report, now time.Time) {
	if r.deliveries > 1 && k.last > 0 {
		k.all[k.last-1].again = now
	}
	for i := 0; i < len(k.waiting); i++ {
		x := &k.all[k.waiting[i]]
		by, incarnation := s.index, s.incarnation
		if x.role == roleProducer {
			by, incarnation = int(r.producer), int(r.incarnation)
		}
		if by != x.index || incarnation < x.successor {
			continue
		}
		x.resumed = now
		k.waiting = append(k.waiting[:i], k.waiting[i+1:]...)
		i--
	}
}

// slowest returns the longest time for which the work of a killed process stood still: a producer's until its successor's
// first message came; a consumer's until what it had held came again, or, if it held nothing, until its successor's first
// report. Kills at the very end, after which nothing was left to do, do not count.
func (k *kills) slowest() (d time.Duration) {
	for i := range k.all {
		switch x := &k.all[i]; {
		case x.spared:
		case !x.again.IsZero():
			d = max(d, x.again.Sub(x.at))
		case !x.resumed.IsZero():
			d = max(d, x.resumed.Sub(x.at))
		}
	}
	return d
}

// count returns how many processes of a role were killed.
func (k *kills) count(role string) (n int) {
	for i := range k.all {
		if x := &k.all[i]; x.role == role && !x.spared {
			n++
		}
	}
	return n
}

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

// sample is one line of stat: rates over the interval, and what stands at its end.
type sample struct {
	Time           string  `json:"time"`
	TimeNS         int64   `json:"time_ns"`
	Name           string  `json:"name"`
	IntervalNS     int64   `json:"interval_ns"`
	SentPerS       float64 `json:"sent_per_second"`
	ReceivedPerS   float64 `json:"received_per_second"`
	SleepsPerS     float64 `json:"sleeps_per_second"`
	WakesPerS      float64 `json:"wakes_per_second"`
	RedeliveredNow uint64  `json:"redelivered_in_interval"`
	Lag            uint64  `json:"lag"` // slots between what is claimed and what was received
	ring.Stats
}

// look is one ring at one moment.
type look struct {
	at    time.Time
	id    string
	stats ring.Stats
}

var statCommand = &command{
	name: "stat", operands: "NAME...", summary: "one line per interval: rates, lag, waits", takesName: true,
	detail: "LAG and USED count slots. Rates are per second.",
	new: func(f *flags) runner {
		f.withDir()
		var jsonOut, noHeaders bool
		var n int
		interval := time.Second
		f.duration(&interval, "i interval", "time between lines; default 1s")
		f.number(&n, "n count", "end after N intervals")
		f.toggle(&jsonOut, "j json", "one JSON object per line")
		f.toggle(&noHeaders, "no-headers", "no line of headings")
		return func(ctx context.Context, a *app, operands []string) error {
			if len(operands) == 0 {
				return usagef("the name of a ring is missing; `millrace ls` shows which there are")
			}
			if interval <= 0 {
				return usagef("-i: the interval must be above 0")
			}
			if !jsonOut && !noHeaders {
				fmt.Fprintln(a.stdout, statLine("TIME", "NAME", "SENT/S", "RECV/S", "LAG", "USED", "SLEEPS/S", "WAKES/S", "REDELIVERED", "LOST"))
			}
			return watch(ctx, a, operands, interval, n, func(s *sample) error {
				if jsonOut {
					return writeJSON(a.stdout, s)
				}
				rate := func(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) }
				count := func(v uint64) string { return strconv.FormatUint(v, 10) }
				_, err := fmt.Fprintln(a.stdout, statLine(time.Unix(0, s.TimeNS).Format("15:04:05.0"), s.Name, rate(s.SentPerS), rate(s.ReceivedPerS),
					count(s.Lag), fmt.Sprintf("%d/%d", s.Used, s.Slots), rate(s.SleepsPerS), rate(s.WakesPerS), count(s.Redelivered), count(s.Lost)))
				return err
			})
		}
	},
}

func statLine(cells ...any) string {
	return fmt.Sprintf("%-10s  %-20s  %9s  %9s  %9s  %13s  %9s  %9s  %11s  %6s", cells...)
}

// watch looks at the rings once per interval, n times; 0: until it is interrupted. They are opened anew each time, so that a
// ring that was removed, or made again, is noticed.
func watch(ctx context.Context, a *app, names []string, interval time.Duration, n int, each func(*sample) error) error {
	last := make([]look, len(names))
	for round := 0; ; round++ {
		for i, name := range names {
			now, err := lookAt(a, name)
			if err != nil {
				return err
			}
			if round > 0 {
				if now.id != last[i].id {
					last[i] = look{at: now.at.Add(-interval), id: now.id}
				}
				if err := each(between(name, &last[i], &now)); err != nil {
					return err
				}
			}
			last[i] = now
		}
		if n > 0 && round == n {
			return nil
		}
		if err := sleep(ctx, interval); err != nil {
			return err
		}
	}
}

func lookAt(a *app, name string) (look, error) {
	r, err := ring.Open(name, ring.WithDir(a.dir), ring.ReadOnly())
	if err != nil {
		return look{}, notFound(a, name, nextList, err)
	}
	defer r.Close()
	h := r.Header()
	return look{time.Now(), hex.EncodeToString(h.ID[:]), r.Stats()}, nil
}

func between(name string, from, to *look) *sample {
	d := to.at.Sub(from.at)
	rate := func(a, b uint64) float64 { return float64(b-min(a, b)) / d.Seconds() }
	f, t := &from.stats, &to.stats
	return &sample{
		Time: stamp(to.at), TimeNS: to.at.UnixNano(), Name: name, IntervalNS: int64(d),
		SentPerS: rate(f.Sent, t.Sent), ReceivedPerS: rate(f.Received, t.Received), SleepsPerS: rate(f.Sleeps, t.Sleeps), WakesPerS: rate(f.Wakes, t.Wakes),
		RedeliveredNow: t.Redelivered - min(f.Redelivered, t.Redelivered), Lag: t.ProducerPosition - min(t.ConsumerPosition, t.ProducerPosition), Stats: *t,
	}
}

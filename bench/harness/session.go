package harness

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cd1900cf/millrace/bench/mech"
	"github.com/cd1900cf/millrace/internal/measure"
)

// Session is a number of rounds over the rows of a plan, written to a file as it goes. A session that was broken off goes on where it was.
type Session struct {
	Runner Runner
	Rows   *regexp.Regexp // of those names
	Mechs  *regexp.Regexp // of those mechanisms
	Rounds int
	Limit  time.Duration // 0: none
	Out    string
	Log    io.Writer

	floor *measure.Floor
	out   *os.File

	started time.Time
	done    map[string]int // runs on file
	count   map[string]int // messages that a run of this cell takes
	dead    map[string]bool
}

// Run measures what is not on file yet.
func (s *Session) Run() (err error) {
	rows := s.chosen(Plan())
	if len(rows) == 0 {
		return errors.New("harness: no row of the plan has such a name")
	}
	if err := s.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.out.Close()) }()
	dir, err := os.MkdirTemp(SharedMemory(), "millrace-floor-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if s.floor, err = measure.StartFloor(dir, FloorVerb, 0, 1); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.floor.Close()) }()
	s.started = time.Now()
	err = s.all(rows)
	if err == errLimit {
		fmt.Fprintf(s.Log, "%v are over; the same command goes on from here\n", s.Limit)
		err = nil
	}
	return err
}

// errLimit ends a session that took its time.
var errLimit = errors.New("harness: the time is over")

// all goes through all rounds, and then through those that the machine makes necessary.
func (s *Session) all(rows []Row) error {
	for round := range s.Rounds {
		if err := s.round(rows, round); err != nil {
			return err
		}
		fmt.Fprintf(s.Log, "round %d of %d after %v\n", round+1, s.Rounds, time.Since(s.started).Round(time.Second))
	}
	for round := s.Rounds; s.Rounds >= enough && round < 2*s.Rounds; round++ {
		rows, err := s.thin(rows)
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := s.round(rows, round); err != nil {
			return err
		}
		fmt.Fprintf(s.Log, "round %d, of rows with fewer than %d near runs, after %v\n", round+1, enough, time.Since(s.started).Round(time.Second))
	}
	return nil
}

// round goes through some rows once, mechanism by mechanism.
func (s *Session) round(rows []Row, round int) error {
	for _, row := range rows {
		if row.Seldom > 0 && round%row.Seldom != 0 {
			continue
		}
		for _, m := range row.Mechs {
			if s.Limit > 0 && time.Since(s.started) > s.Limit {
				return errLimit
			}
			if err := s.cell(row, m, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// thin returns the rows in which some mechanism has too few near runs to be compared. Rows that are disturbed by nature are not among them.
func (s *Session) thin(rows []Row) ([]Row, error) {
	f, err := os.Open(s.Out)
	if err != nil {
		return nil, err
	}
	runs, _, err := Read(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	Tag(runs)
	_, cells := Summarize(runs)
	return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool {
		return r.Seldom > 0 || !slices.ContainsFunc(cells[r.Name], func(c Summary) bool { return c.NearRuns < enough })
	}), nil
}

// chosen leaves the rows and mechanisms that were asked for.
func (s *Session) chosen(all []Row) (rows []Row) {
	for _, r := range all {
		if s.Rows != nil && !s.Rows.MatchString(r.Name) {
			continue
		}
		r.Mechs = slices.DeleteFunc(slices.Clone(r.Mechs), func(m string) bool { return s.Mechs != nil && !s.Mechs.MatchString(m) })
		if s.Runner.Ref != "" {
			r.Mechs = s.twice(r.Mechs)
		}
		if len(r.Mechs) > 0 {
			rows = append(rows, r)
		}
	}
	return rows
}

// twice has each mechanism that is built from another commit, too, as it was, and as it is.
func (s *Session) twice(mechs []string) (both []string) {
	for _, m := range mechs {
		if known, _ := mech.Known(m); known || s.Runner.RefPeers != "" && strings.HasPrefix(m, clientInC) {
			both = append(both, m+atRef, m)
		}
	}
	return both
}

// open reads which runs are on file, and begins the file when there is none.
func (s *Session) open() (err error) {
	s.done, s.count, s.dead = map[string]int{}, map[string]int{}, map[string]bool{}
	if old, err := os.Open(s.Out); err == nil {
		runs, _, err := Read(old)
		if err := errors.Join(err, old.Close()); err != nil {
			return err
		}
		for _, r := range runs {
			s.done[r.Name]++
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if s.out, err = os.OpenFile(s.Out, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		return err
	}
	if len(s.done) > 0 {
		return nil
	}
	env, err := Environment()
	if err != nil {
		return err
	}
	_, err = io.WriteString(s.out, env)
	return err
}

// cell runs one mechanism on one row once, with the floor before and after it.
func (s *Session) cell(row Row, name string, round int) error {
	cell := Cell(row.Name, name)
	if row.Seldom > 0 {
		round /= row.Seldom
	}
	if s.done[cell] > round || s.dead[cell] {
		return nil
	}
	a := row.Args
	a.Mech = name
	if s.count[cell] == 0 {
		var err error
		if s.count[cell], err = s.calibrate(row, a); err != nil {
			return s.failed(cell, err)
		}
	}
	a.Count = s.count[cell]
	before, err := s.floor.Measure()
	if err != nil {
		return err
	}
	res, err := s.Runner.Run(a)
	if err != nil {
		return s.failed(cell, err)
	}
	after, err := s.floor.Measure()
	if err != nil {
		return err
	}
	s.done[cell]++
	_, err = fmt.Fprintln(s.out, line(cell, a, res, before, after))
	return err
}

// calibrate finds out how many messages a run takes that lasts as long as the row wants. These runs warm up, too.
func (s *Session) calibrate(row Row, a mech.Args) (int, error) {
	if row.For == 0 {
		return a.Count, nil
	}
	least, fastest := a.Count, math.Inf(1)
	for i := range 6 { // a short run, and the first one, is mostly its start: go on until one lasts at least half as long as it should
		res, err := s.Runner.Run(a)
		if err != nil {
			return 0, err
		}
		fastest = min(fastest, res.Nanoseconds)
		want := max(least, int(float64(row.For)/fastest)) / a.Batch * a.Batch
		if i >= 2 && want < 2*a.Count {
			return want, nil
		}
		a.Count = max(least, min(want, 20*a.Count))
	}
	return a.Count, nil
}

// failed leaves a cell out for the rest of the session. That a peer is not installed is on file; that it fails, too.
func (s *Session) failed(cell string, err error) error {
	s.dead[cell] = true
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	fmt.Fprintf(s.Log, "%s: %s\n", cell, text)
	_, err = fmt.Fprintf(s.out, "# %s: %s\n", cell, text)
	return err
}

// Cell is the name under which the runs of a mechanism on a row are on file.
func Cell(row, name string) string { return "Benchmark" + row + "/mech=" + name }

// line is one run as go test -bench writes it, so that benchstat reads it.
func line(cell string, a mech.Args, res Result, before, after measure.Moment) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d", cell, a.Count)
	values := append(res.Values(&a), Value{float64(before.Trip), "floor-before-ns"}, Value{float64(after.Trip), "floor-after-ns"},
		Value{before.Width, "width-before"}, Value{after.Width, "width-after"})
	for _, v := range values {
		fmt.Fprintf(&b, " %.4g %s", v.Value, v.Unit)
	}
	return b.String()
}

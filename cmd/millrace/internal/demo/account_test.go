package demo

import (
	"fmt"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
)

// ledger is an account of two producers with three small files, and what the ring would say.
type ledger struct {
	*account
	s     *source
	stats ring.Stats
}

func newLedger() *ledger {
	var files []file
	for i, size := range []int64{0, chunkSize + 1, 10} {
		f := file{path: fmt.Sprint("file", i), size: size}
		for seq := range f.chunks() {
			f.sums = append(f.sums, xxhash.Sum64(make([]byte, f.chunk(seq))))
		}
		files = append(files, f)
	}
	a := newAccount(files, share(files, 2))
	return &ledger{account: a, s: a.newSource(0, 0), stats: ring.Stats{Received: 100}}
}

// message returns the report of message number n of a producer.
func (l *ledger) message(producer int, n, position uint64) *report {
	pass, k, seq := l.lanes[producer].locate(n)
	i := l.lanes[producer].files[k]
	f := &l.files[i]
	r := &report{position: position, sum: f.sums[seq], length: uint32(f.chunk(seq)), deliveries: 1, received: 5}
	r.header = header{file: uint32(i), pass: uint32(pass), seq: uint32(seq), total: uint32(f.chunks()), producer: uint32(producer), offset: seq * chunkSize}
	return r
}

// all reports one pass, positions from 0.
func (l *ledger) all() (position uint64) {
	for p := range l.lanes {
		for n := range l.lanes[p].pass {
			l.report(l.message(p, n, position))
			position++
		}
	}
	return position
}

func (l *ledger) report(r *report) { l.take(l.s, r.append(nil)) }

func (l *ledger) close(totals ...uint64) *Result {
	if totals == nil {
		totals = []uint64{l.lanes[0].pass, l.lanes[1].pass}
	}
	return l.result(&Config{Kind: ring.MPMC}, "q", 0, totals, l.stats)
}

func TestAccountBalancesWhenEverythingCameOnce(t *testing.T) {
	l := newLedger()
	n := l.all()
	r := l.close()
	require.True(t, r.Balanced, "%v", r.Problems)
	require.Equal(t, n, r.Sent)
	require.Equal(t, n, r.Received)
	require.Equal(t, 3, r.FilesVerified)
}

func TestAccountFindsWhatIsMissing(t *testing.T) {
	l := newLedger()
	l.all()
	r := l.close(l.lanes[0].pass+1, l.lanes[1].pass)
	require.False(t, r.Balanced)
	require.EqualValues(t, 1, r.Lost)
	require.Equal(t, r.Sent, r.Received+1)
}

func TestAccountAllowsMarkedRepeatsInAnyOrder(t *testing.T) {
	l := newLedger()
	n := l.all()
	again := l.message(0, 0, n)
	again.pass = 1
	again.deliveries = 2 // arrives before the first delivery, from another pipe
	l.report(again)
	again.deliveries = 1
	l.report(again)
	again.deliveries = 3
	l.take(l.newSource(1, 0), again.append(nil))
	r := l.close(l.lanes[0].pass+l.first(0), l.lanes[1].pass)
	require.True(t, r.Balanced, "%v", r.Problems)
	require.EqualValues(t, 2, r.Redelivered)
	require.Equal(t, n+1, r.Received)
}

// first is how many messages the first file of a lane makes.
func (l *ledger) first(p int) uint64 { return l.files[l.lanes[p].files[0]].chunks() }

func TestAccountFindsUnmarkedDuplicates(t *testing.T) {
	for name, repeat := range map[string]func(l *ledger, n uint64) *report{
		"of a delivery": func(l *ledger, n uint64) *report { return l.message(1, 0, n-l.lanes[1].pass) },
		"of a message":  func(l *ledger, n uint64) *report { return l.message(1, 0, n) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			n := l.all()
			l.take(l.newSource(1, 0), repeat(l, n).append(nil))
			r := l.close()
			require.False(t, r.Balanced)
			require.EqualValues(t, 1, r.Duplicates)
		})
	}
}

func TestAccountCountsWhatASuccessorSendsAgain(t *testing.T) {
	l := newLedger()
	n := l.all()
	again := l.message(1, l.lanes[1].pass-1, n)
	again.incarnation = 1
	l.report(again)
	r := l.close()
	require.True(t, r.Balanced, "%v", r.Problems)
	require.EqualValues(t, 1, r.Resent)
	require.Equal(t, n+1, r.Sent)
	require.Equal(t, n+1, r.Received)
}

func TestAccountCountsWhatNobodyRecorded(t *testing.T) {
	l := newLedger()
	n := l.all()
	beyond := l.message(0, l.lanes[0].pass, n)
	l.report(beyond)
	r := l.close()
	require.True(t, r.Balanced, "%v", r.Problems)
	require.EqualValues(t, 1, r.Unrecorded)
	require.Equal(t, r.Sent, r.Received)
}

func TestAccountFindsWrongContentOrderAndStrangers(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(r *report)
		count func(r *Result) uint64
	}{
		"content":     {func(r *report) { r.sum++ }, func(r *Result) uint64 { return r.Corrupt }},
		"length":      {func(r *report) { r.length++ }, func(r *Result) uint64 { return r.Corrupt }},
		"order":       {func(r *report) { r.position = 0 }, func(r *Result) uint64 { return r.OutOfOrder }},
		"producer":    {func(r *report) { r.producer = 1 - r.producer }, func(r *Result) uint64 { return r.Foreign }},
		"file":        {func(r *report) { r.file = 77 }, func(r *Result) uint64 { return r.Foreign }},
		"chunk":       {func(r *report) { r.seq = r.total }, func(r *Result) uint64 { return r.Foreign }},
		"offset":      {func(r *report) { r.offset++ }, func(r *Result) uint64 { return r.Foreign }},
		"incarnation": {func(r *report) { r.position, r.deliveries, r.incarnation = 1, 2, 9 }, func(r *Result) uint64 { return r.Foreign }},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			n := l.all()
			r := l.message(0, l.lanes[0].pass, n)
			c.spoil(r)
			l.report(r)
			result := l.close(l.lanes[0].pass+l.first(0), l.lanes[1].pass)
			require.False(t, result.Balanced)
			require.Positive(t, c.count(result))
		})
	}
}

func TestAccountComparesWithTheRing(t *testing.T) {
	for name, stats := range map[string]ring.Stats{
		"sent": {Sent: 1000, Received: 100}, "received": {}, "used": {Used: 1, Received: 100}, "lost": {Lost: 1, Received: 100},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			l.all()
			l.stats = stats
			require.False(t, l.close().Balanced)
		})
	}
}

func TestReportsThatAKillCutShortAreLeft(t *testing.T) {
	l := newLedger()
	b := l.message(0, 0, 0).append(l.message(1, 0, 1).append(nil))
	require.Equal(t, reportSize, l.take(l.s, b[:2*reportSize-1]))
	require.Zero(t, l.take(l.s, b[:reportSize-1]))
	require.EqualValues(t, 1, l.reports)
}

func TestSlowestRecovery(t *testing.T) {
	var k kills
	at := time.Now()
	p := k.add(roleProducer, 0, 1, at)
	k.add(roleConsumer, 2, 1, at)
	k.add(roleConsumer, 3, 4, at) // holds something that comes again
	spared := k.add(roleProducer, 1, 1, at)
	k.all[spared].spared = true

	k.note(&source{index: 2, incarnation: 1}, &report{header: header{producer: 1, incarnation: 5}, deliveries: 1}, at.Add(2*time.Second))
	k.note(&source{index: 0}, &report{header: header{producer: 0, incarnation: 0}, deliveries: 2}, at.Add(3*time.Second))
	require.True(t, k.all[p].resumed.IsZero(), "a message of the dead one itself")
	require.Equal(t, 3*time.Second, k.slowest())
	k.note(&source{index: 0}, &report{header: header{producer: 0, incarnation: 1}, deliveries: 1}, at.Add(4*time.Second))
	require.Equal(t, 4*time.Second, k.slowest())
	require.Equal(t, 1, k.count(roleProducer))
	require.Equal(t, 2, k.count(roleConsumer))
}

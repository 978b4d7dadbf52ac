package ring

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cd1900cf/millrace/futex"
	"github.com/cd1900cf/millrace/seg"
)

// queues is where the waiting goroutines of this process meet on one ring, however often it is open here, and where the news of a
// possible death comes in (docs/FORMAT.md section 8.2).
type queues struct {
	id                [16]byte
	users             int // guarded by queuesMu
	notEmpty, notFull futex.Queue
	handles           [ConsumerRole + 1]atomic.Int32 // of this process, by role

	watchOnce sync.Once
	watch     *seg.Watch // nil: none. Set once, when somebody first parks
}

var (
	queuesMu sync.Mutex
	queuesOf = map[[16]byte]*queues{}
)

func enterQueues(id [16]byte) *queues {
	queuesMu.Lock()
	defer queuesMu.Unlock()
	q := queuesOf[id]
	if q == nil {
		q = &queues{id: id}
		queuesOf[id] = q
	}
	q.users++
	return q
}

func (q *queues) leave() {
	queuesMu.Lock()
	defer queuesMu.Unlock()
	if q.users--; q.users > 0 {
		return
	}
	delete(queuesOf, q.id)
	q.watchOnce.Do(func() {}) // makes the field visible
	if q.watch != nil {
		q.watch.Stop()
	}
}

// tick bounds the next sleep. The first one to park starts the watch.
func (q *queues) tick(s *seg.Segment) time.Duration {
	if s == nil {
		return tick
	}
	q.watchOnce.Do(func() {
		// Without inotify, or beyond its limits, there is no watch, and the shorter tick does for it.
		if w, err := s.Watch(q.nudge); err == nil {
			q.watch = w
		}
	})
	if q.watch != nil && q.watch.Proven() {
		return watchedTick
	}
	return tick
}

// nudge makes everybody who waits here look for the dead.
func (q *queues) nudge() {
	q.notEmpty.Nudge()
	q.notFull.Nudge()
}

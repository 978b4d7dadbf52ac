//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// usage is what a process, or the directory of the rings, takes at one moment.
type usage struct {
	RSS     int `json:"rss_kib"`
	FDs     int `json:"descriptors"`
	Threads int `json:"threads"`
	Maps    int `json:"mappings"`
}

// use reads the usage of a process; ok is false when it is gone.
func use(pid int) (u usage, ok bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	statm, err := os.ReadFile(filepath.Join(dir, "statm"))
	if err != nil {
		return u, false
	}
	fields := strings.Fields(string(statm))
	pages, err := strconv.Atoi(fields[1])
	if err != nil {
		return u, false
	}
	u.RSS = pages * os.Getpagesize() / 1024
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return u, false
	}
	tasks, err := os.ReadDir(filepath.Join(dir, "task"))
	if err != nil {
		return u, false
	}
	maps, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		return u, false
	}
	u.FDs, u.Threads, u.Maps = len(fds), len(tasks), bytes.Count(maps, []byte("\n"))
	return u, true
}

// series are the samples of one thing over the run, and whether they grow.
type series struct {
	Name    string  `json:"name"`
	Count   int     `json:"samples"`
	First   usage   `json:"first"` // least of the first quarter, without the first sample
	Last    usage   `json:"last"`  // least of the last quarter
	Most    usage   `json:"most"`
	Path    []usage `json:"path"` // least of each eighth of the run
	samples []usage
	slack   usage
}

// What is not growth: pages that the allocator keeps, threads that the runtime has started for a moment, and with the parent the pipes of the children
// that happen to run. A survivor is looked at between two rings.
var (
	slackParent   = usage{RSS: 24 << 10, FDs: 64, Threads: 8}
	slackSurvivor = usage{RSS: 8 << 10, FDs: 2, Threads: 4}
)

// fewestSamples is how many samples there must be to tell growth from warming up.
const fewestSamples = 4

// least is the component-wise minimum: what is left when nothing special goes on.
func least(list []usage) usage {
	u := list[0]
	for _, v := range list[1:] {
		u = usage{min(u.RSS, v.RSS), min(u.FDs, v.FDs), min(u.Threads, v.Threads), min(u.Maps, v.Maps)}
	}
	return u
}

// judge compares the beginning with the end, and says what has grown.
func (s *series) judge() (grown []string) {
	s.Count = len(s.samples)
	for _, u := range s.samples {
		s.Most = usage{max(s.Most.RSS, u.RSS), max(s.Most.FDs, u.FDs), max(s.Most.Threads, u.Threads), max(s.Most.Maps, u.Maps)}
	}
	if s.Count < fewestSamples {
		return nil
	}
	n := s.Count / 4
	s.First, s.Last = least(s.samples[1:n+1]), least(s.samples[s.Count-n:])
	for i := range 8 {
		if part := s.samples[i*s.Count/8 : (i+1)*s.Count/8]; len(part) > 0 {
			s.Path = append(s.Path, least(part))
		}
	}
	for _, x := range []struct {
		what               string
		first, last, slack int
	}{
		{"resident memory (KiB)", s.First.RSS, s.Last.RSS, s.slack.RSS},
		{"descriptors", s.First.FDs, s.Last.FDs, s.slack.FDs},
		{"threads", s.First.Threads, s.Last.Threads, s.slack.Threads},
	} {
		if x.last > x.first+x.slack {
			grown = append(grown, fmt.Sprintf("%s: %s grew from %d to %d", s.Name, x.what, x.first, x.last))
		}
	}
	return grown
}

// watchdog samples the parent, the survivors and the files.
type watchdog struct {
	mu       sync.Mutex
	all      []*series
	dir      string
	mostFile int
}

func (w *watchdog) sample(name string, pid int, slack usage) {
	u, ok := use(pid)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.all, func(s *series) bool { return s.Name == name })
	if i < 0 {
		i = len(w.all)
		w.all = append(w.all, &series{Name: name, slack: slack})
	}
	w.all[i].samples = append(w.all[i].samples, u)
}

// files counts what lies in the directory of the rings: at most one file for each lane.
func (w *watchdog) files() (int, error) {
	entries, err := os.ReadDir(w.dir)
	w.mostFile = max(w.mostFile, len(entries))
	return len(entries), err
}

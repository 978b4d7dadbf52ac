package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

// listed is a ring as ls shows it.
type listed struct {
	Name        string `json:"name"`
	Path        string `json:"path"`
	Kind        string `json:"kind,omitempty"`
	Backing     string `json:"backing,omitempty"`
	Size        int64  `json:"size"`
	Slots       uint64 `json:"slots"`
	SlotSize    uint64 `json:"slot_size"`
	Used        *int   `json:"used,omitempty"` // absent: could not be read
	Attached    bool   `json:"attached"`
	Attachments int    `json:"attachments"` // processes or handles that have it open, as far as they can be seen from here
	State       string `json:"state"`
	Temporary   bool   `json:"temporary"`
	Mode        string `json:"mode"`
	UID         uint32 `json:"uid"`
	Created     string `json:"created,omitempty"`
	CreatedNS   int64  `json:"created_ns,omitempty"`
	Error       string `json:"error,omitempty"`
}

// columns of ls, by name.
var columns = map[string]func(l *listed) string{
	"name":        func(l *listed) string { return l.Name },
	"path":        func(l *listed) string { return l.Path },
	"kind":        func(l *listed) string { return orDash(l.Kind) },
	"backing":     func(l *listed) string { return orDash(l.Backing) },
	"size":        func(l *listed) string { return strconv.FormatInt(l.Size, 10) },
	"slots":       func(l *listed) string { return strconv.FormatUint(l.Slots, 10) },
	"slot_size":   func(l *listed) string { return strconv.FormatUint(l.SlotSize, 10) },
	"used":        func(l *listed) string { return orDash(number(l.Used)) },
	"attached":    func(l *listed) string { return attachedCell(l) },
	"attachments": func(l *listed) string { return strconv.Itoa(l.Attachments) },
	"state":       func(l *listed) string { return l.State },
	"temporary":   func(l *listed) string { return strconv.FormatBool(l.Temporary) },
	"mode":        func(l *listed) string { return l.Mode },
	"uid":         func(l *listed) string { return strconv.FormatUint(uint64(l.UID), 10) },
	"created":     func(l *listed) string { return orDash(l.Created) },
	"error":       func(l *listed) string { return orDash(l.Error) },
}

func attachedCell(l *listed) string {
	if l.Attached && l.Attachments == 0 {
		return "yes" // seen by its locks only
	}
	return strconv.Itoa(l.Attachments)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func number(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

var lsCommand = &command{
	name: "ls", summary: "rings found, kind, size, used, attached, state",
	detail: "State: live (somebody is attached), dead (a dead participant was not recovered yet), idle, damaged.\nColumns for -o: " + columnNames(),
	new: func(f *flags) runner {
		f.withDir()
		var jsonOut, noHeaders, bytes bool
		cols := "name,kind,size,used,attached,state"
		f.toggle(&jsonOut, "j json", "one JSON object per line")
		f.text(&cols, "o columns", "COLS", "columns, separated by commas; default "+cols)
		f.toggle(&noHeaders, "no-headers", "no line of headings")
		f.toggle(&bytes, "bytes", "sizes in bytes")
		return func(ctx context.Context, a *app, operands []string) error {
			if err := noOperands(operands); err != nil {
				return err
			}
			names := strings.Split(strings.ToLower(cols), ",")
			for _, n := range names {
				if columns[n] == nil {
					return usagef("-o: no column %q; there are %s", n, columnNames())
				}
			}
			infos, err := seg.List(a.dir)
			if err != nil {
				return err
			}
			t := table{}
			for _, n := range names {
				t.head = append(t.head, strings.ToUpper(n))
			}
			for i := range infos {
				l := list(&infos[i], a.dir)
				if jsonOut {
					if err := writeJSON(a.stdout, l); err != nil {
						return err
					}
					continue
				}
				var cells []string
				for _, n := range names {
					if n == "size" && !bytes && isTerminal(a.stdout) {
						cells = append(cells, humanSize(uint64(l.Size)))
					} else {
						cells = append(cells, columns[n](l))
					}
				}
				t.add(cells...)
			}
			if jsonOut {
				return nil
			}
			if len(infos) == 0 && isTerminal(a.stdout) {
				a.warn("no rings in %s; `millrace create NAME --kind mpmc` makes one", dirOf(a))
				return nil
			}
			return t.print(a.stdout, !noHeaders)
		}
	},
}

// columnNames lists the columns of ls.
func columnNames() string {
	var names []string
	for n := range columns {
		names = append(names, n)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// list describes a ring, as far as it may be read.
func list(info *seg.Info, dir string) *listed {
	h := &info.Header
	l := &listed{
		Name: info.Name, Path: info.Path, Size: info.Size, Slots: h.Slots, SlotSize: h.SlotSize,
		Attached: info.Attached, Attachments: info.NAttach, Mode: octal(info.Mode), UID: info.UID, State: "idle",
	}
	if info.Err != nil {
		l.State, l.Error = "damaged", info.Err.Error()
		return l
	}
	created := time.Unix(0, int64(h.Created))
	l.Kind, l.Backing, l.Temporary = ring.Kind(h.Kind).String(), seg.Backing(h.Backing).String(), ring.TemporaryHeader(h)
	l.Created, l.CreatedNS = stamp(created), int64(h.Created)
	if info.Attached {
		l.State = "live"
	}
	r, err := ring.Open(info.Name, ring.WithDir(dir), ring.ReadOnly())
	if err != nil {
		l.Error = err.Error()
		return l
	}
	defer r.Close()
	used := r.Stats().Used
	l.Used = &used
	if dead, err := r.Recover(true); err == nil && len(dead) > 0 {
		l.State = "dead"
	}
	return l
}

func octal(m fs.FileMode) string { return fmt.Sprintf("%#o", m.Perm()) }

// dirOf returns the directory of the rings.
func dirOf(a *app) string {
	if a.dir != "" {
		return a.dir
	}
	return seg.DefaultDir()
}

// exists says whether something lies at path, without following links.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

var rmCommand = &command{
	name: "rm", operands: "NAME...", summary: "remove rings that nobody is attached to", takesName: true, changes: true,
	detail: "Refuses while anybody is attached or unread messages are left. --force removes all the same: everybody's calls end with\n" +
		"an error. --stale removes what dead processes left: unfinished creations, and drained temporary rings that nobody is\n" +
		"attached to; with NAME only among those; with --force also temporary rings with unread messages.",
	new: func(f *flags) runner {
		f.withDir()
		var force, stale bool
		f.toggle(&force, "force", "also when somebody is attached, or messages are unread")
		f.toggle(&stale, "stale", "what dead processes left")
		return func(ctx context.Context, a *app, operands []string) error {
			if stale {
				return removeStale(a, operands, force)
			}
			if len(operands) == 0 {
				return usagef("the name of a ring is missing; `millrace ls` shows which there are")
			}
			opts := []ring.OpenOption{ring.WithDir(a.dir)}
			if force {
				opts = append(opts, ring.WithForce())
			} else {
				opts = append(opts, ring.IfDrained())
			}
			var errs []error
			for _, name := range operands {
				if err := ring.Remove(name, opts...); err != nil {
					errs = append(errs, notFound(a, name, nextList, err))
				}
			}
			if len(errs) == 1 {
				return errs[0]
			}
			return errors.Join(errs...)
		}
	},
}

// removeStale removes what dead processes left, and prints what that was.
func removeStale(a *app, only []string, force bool) error {
	removed, err := seg.Sweep(a.dir)
	for _, path := range removed {
		fmt.Fprintln(a.stdout, path)
	}
	if err != nil {
		return err
	}
	infos, err := seg.List(a.dir)
	if err != nil {
		return err
	}
	for i := range infos {
		info := &infos[i]
		if info.Err != nil || !ring.TemporaryHeader(&info.Header) || info.Attached || len(only) > 0 && !slices.Contains(only, info.Name) {
			continue
		}
		opts := []ring.OpenOption{ring.WithDir(a.dir)}
		if !force { // Remove refuses by itself when somebody came meanwhile
			opts = append(opts, ring.IfDrained())
		}
		switch err := ring.Remove(info.Name, opts...); {
		case err == nil:
			fmt.Fprintln(a.stdout, info.Path)
		case errors.Is(err, ring.ErrInUse), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		default:
			return err
		}
	}
	for _, name := range only {
		if !exists(filepath.Join(dirOf(a), name)) {
			continue
		}
		a.warn("%s stays: it is not temporary, is in use, or has unread messages", name)
	}
	return nil
}

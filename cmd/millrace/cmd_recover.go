package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/cd1900cf/millrace/ring"
)

// recovered is one dead participant.
type recovered struct {
	ID        int      `json:"id"`
	Role      string   `json:"role"`
	PID       int      `json:"pid"`
	Held      []uint64 `json:"held"` // positions
	Recovered bool     `json:"recovered"`
}

var recoverCommand = &command{
	name: "recover", operands: "NAME", summary: "name what dead participants hold, and give it back", takesName: true, changes: true,
	detail: "Rings repair themselves while they are used; this does it for one that nobody uses. Only the kernel's word counts:\n" +
		"nothing is taken from a participant whose lock stands, however long it is stopped.",
	new: func(f *flags) runner {
		f.withDir()
		var dryRun, jsonOut bool
		f.toggle(&dryRun, "dry-run", "only look")
		f.toggle(&jsonOut, "j json", "one JSON object per line")
		return func(ctx context.Context, a *app, operands []string) error {
			name, err := oneName(operands)
			if err != nil {
				return err
			}
			opts := []ring.OpenOption{ring.WithDir(a.dir)}
			if dryRun {
				opts = append(opts, ring.ReadOnly())
			}
			r, err := ring.Open(name, opts...)
			if err != nil {
				return notFound(a, name, nextList, err)
			}
			defer r.Close()
			list, err := r.Recover(dryRun)
			for _, d := range list {
				if err := printRecovered(a, d, dryRun, jsonOut); err != nil {
					return err
				}
			}
			if err == nil && len(list) == 0 {
				a.warn("no dead participants")
			}
			return err
		}
	},
}

func printRecovered(a *app, d ring.Recovered, dryRun, jsonOut bool) error {
	if jsonOut {
		if d.Held == nil {
			d.Held = []uint64{}
		}
		return writeJSON(a.stdout, recovered{d.ID, d.Role.String(), d.PID, d.Held, !dryRun})
	}
	held := "nothing"
	if len(d.Held) > 0 {
		held = "positions " + strings.Trim(fmt.Sprint(d.Held), "[]")
	}
	done := "recovered"
	if dryRun {
		done = "not recovered (dry run)"
	}
	_, err := fmt.Fprintf(a.stdout, "%s %d (pid %d) is dead and holds %s: %s\n", d.Role, d.ID, d.PID, held, done)
	return err
}

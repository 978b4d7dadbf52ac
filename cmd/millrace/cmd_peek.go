package main

import (
	"context"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

var peekCommand = &command{
	name: "peek", operands: "NAME", summary: "look at messages without consuming them", takesName: true,
	detail: "Shows unreleased messages in the order of their positions. Needs read permission only and changes nothing.",
	new: func(f *flags) runner {
		f.withDir()
		var pf printFlags
		n := 10
		f.number(&n, "n count", "at most N messages; default 10")
		pf.register(f)
		return func(ctx context.Context, a *app, operands []string) error {
			name, err := oneName(operands)
			if err != nil {
				return err
			}
			show, err := pf.printer(f)
			if err != nil {
				return err
			}
			r, err := ring.Open(name, ring.WithDir(a.dir), ring.ReadOnly())
			if err != nil {
				return notFound(a, name, nextList, err)
			}
			defer r.Close()
			now := time.Now()
			var out []byte
			err = r.Peek(n, func(position uint64, deliveries int, payload []byte) bool {
				out = show(out, received{position, deliveries, payload, now})
				return ctx.Err() == nil
			})
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(out)
			return err
		}
	},
}

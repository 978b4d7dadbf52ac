package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/cd1900cf/millrace/ring"
)

var versionCommand = &command{
	name: "version", summary: "version of the tool and of the format",
	new: func(f *flags) runner {
		var jsonOut bool
		f.toggle(&jsonOut, "j json", "one JSON object")
		return func(ctx context.Context, a *app, operands []string) error {
			if err := noOperands(operands); err != nil {
				return err
			}
			v := struct {
				Version       string `json:"version"`
				Revision      string `json:"revision,omitempty"`
				FormatVersion int    `json:"format_version"`
				Go            string `json:"go"`
				Platform      string `json:"platform"`
			}{"devel", "", ring.FormatVersion, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if b, ok := debug.ReadBuildInfo(); ok {
				if b.Main.Version != "" && b.Main.Version != "(devel)" {
					v.Version = b.Main.Version
				}
				for _, s := range b.Settings {
					if s.Key == "vcs.revision" {
						v.Revision = s.Value
					}
				}
			}
			if jsonOut {
				return writeJSON(a.stdout, v)
			}
			_, err := fmt.Fprintf(a.stdout, "millrace %s, format %d, %s, %s\n", v.Version, v.FormatVersion, v.Go, v.Platform)
			return err
		}
	},
}

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
)

var completionCommand = &command{
	name: "completion", operands: "bash|zsh|fish", summary: "shell completion, to be sourced by the shell",
	detail: "bash: source <(millrace completion bash)\nzsh:  source <(millrace completion zsh)\nfish: millrace completion fish | source",
	new: func(f *flags) runner {
		return func(ctx context.Context, a *app, operands []string) error {
			if len(operands) != 1 {
				return usagef("name one shell: bash, zsh or fish")
			}
			write := map[string]func(*strings.Builder){"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[operands[0]]
			if write == nil {
				return usagef("no completion for %q; there are bash, zsh and fish", operands[0])
			}
			var b strings.Builder
			write(&b)
			_, err := io.WriteString(a.stdout, b.String())
			return err
		}
	},
}

// verbFlags calls each for every visible command with its flags as they are typed.
func verbFlags(each func(c *command, docs []flagDoc)) {
	for _, c := range commands {
		if c.hidden {
			continue
		}
		f := newFlags(c)
		c.new(f)
		each(c, f.docs)
	}
}

func typedFlags(docs []flagDoc) string {
	var all []string
	for _, d := range docs {
		for _, n := range d.names {
			all = append(all, spell([]string{n}))
		}
	}
	return strings.Join(all, " ")
}

// bashCompletion completes verbs, flags and the names of rings.
func bashCompletion(b *strings.Builder) {
	var verbs []string
	cases := ""
	verbFlags(func(c *command, docs []flagDoc) {
		verbs = append(verbs, c.name)
		cases += fmt.Sprintf("    %s) flags=%q names=%t ;;\n", c.name, typedFlags(docs), c.takesName)
	})
	fmt.Fprintf(b, `_millrace() {
  local cur=${COMP_WORDS[COMP_CWORD]} flags= names=false
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W %q -- "$cur"))
    return
  fi
  case ${COMP_WORDS[1]} in
%s  esac
  if [ "${cur#-}" != "$cur" ]; then
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
  elif $names && [ "$COMP_CWORD" -eq 2 ]; then
    COMPREPLY=($(compgen -W "$(millrace ls -o name --no-headers 2>/dev/null)" -- "$cur"))
  else
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
complete -F _millrace millrace
`, strings.Join(verbs, " "), cases)
}

// zshCompletion uses the bash completion through zsh's own adapter.
func zshCompletion(b *strings.Builder) {
	b.WriteString("autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n")
	bashCompletion(b)
}

func fishCompletion(b *strings.Builder) {
	b.WriteString("complete -c millrace -f\n")
	verbFlags(func(c *command, docs []flagDoc) {
		fmt.Fprintf(b, "complete -c millrace -n __fish_use_subcommand -a %s -d %s\n", c.name, fishQuote(c.summary))
		if c.takesName {
			fmt.Fprintf(b, "complete -c millrace -n '__fish_seen_subcommand_from %s' -a '(millrace ls -o name --no-headers 2>/dev/null)'\n", c.name)
		}
		for _, d := range docs {
			for _, n := range d.names {
				long := "-l"
				if len(n) == 1 {
					long = "-s"
				}
				fmt.Fprintf(b, "complete -c millrace -n '__fish_seen_subcommand_from %s' %s %s -d %s\n", c.name, long, n, fishQuote(d.usage))
			}
		}
	})
}

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// group is a noun with its verbs.
func group(noun, short, long string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: noun, Short: short, Long: long, Args: known, RunE: help}
	cmd.AddCommand(verbs...)
	return cmd
}

func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// known refuses what is no subcommand, and says which may be meant.
func known(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, append(c.Aliases, c.Name())...)
		}
	}
	return usagef("unknown command %q for %q%s", args[0], cmd.CommandPath(), meant(args[0], names))
}

// arguments wants exactly the named ones.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s needs %s", cmd.CommandPath(), strings.Join(names[len(args):], " and "))
		case len(args) > len(names):
			return usagef("%s takes no %q", cmd.CommandPath(), args[len(names)])
		}
		return nil
	}
}

// strict makes every wrong command line a usageError, whoever finds it.
func strict(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args, cmd.RunE = known, help
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			if _, already := errors.AsType[usageError](err); err == nil || already {
				return err
			}
			return usageError{err}
		}
	}
	for _, c := range cmd.Commands() {
		strict(c)
	}
}

// flagError says what is wrong with a flag, and which may be meant.
func flagError(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return usageError{err}
	}
	name := unknown.GetSpecifiedName()
	switch name {
	case "key", "api-key", "apikey", "token", "password":
		return usagef("%w: a key is never given by flag, where every process can read it; use FULCRUM_API_KEY, FULCRUM_API_KEY_FILE or --key-file", err)
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return usagef("%w%s", err, meant("--"+name, names))
}

// meant is "; did you mean …?", or nothing if no name is close.
func meant(given string, names []string) string {
	best, least := "", max(2, len(given)/3)+1
	for _, name := range names {
		d := distance(strings.ToLower(given), strings.ToLower(name))
		if strings.HasPrefix(strings.ToLower(name), strings.ToLower(given)) {
			d = 1
		}
		if d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is how many letters are to be changed, added or taken away, or
// swapped with a neighbour, to make one word of the other.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			change := 1
			if x[i-1] == y[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}

package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

// confirmed gives a command that destroys something the flag --yes.
func (o *operator) confirmed(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	return cmd
}

// confirm asks the person, unless --yes was given. Where nobody can answer it
// is a wrong command line.
func (o *operator) confirm(cmd *cobra.Command, question string, a ...any) error {
	if o.yes {
		return nil
	}
	question = terminal.Clean(fmt.Sprintf(question, a...))
	unasked := usagef("%s To go on without being asked, add --yes.", question)
	if !screen(cmd.InOrStdin()) {
		return unasked
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	switch {
	case errors.Is(err, io.EOF) && line == "":
		return unasked
	case err != nil && !errors.Is(err, io.EOF):
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	o.say(cmd, "nothing was changed")
	return answered(exitFailure)
}

// changed is the answer to a change that has nothing to show but to programs.
func (o *operator) changed(cmd *cobra.Command, m proto.Message) error {
	return o.answer(cmd, m, func(io.Writer, bool) error { return nil })
}

// terminalLine writes one line of data.
func terminalLine(text string) func(io.Writer, bool) error {
	return func(out io.Writer, _ bool) error {
		_, err := fmt.Fprintln(out, text)
		return err
	}
}

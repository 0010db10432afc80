package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/fulcrum-io/fulcrum/pkg/fault"
	"github.com/fulcrum-io/fulcrum/pkg/rpc"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/evidence"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

// What the command's exit code says.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2 // the command line is wrong
	exitDenied      = 3 // by policy
	exitOverBudget  = 4
	exitApproval    = 5 // a person must approve first
	exitTampered    = 6 // evidence does not verify
	exitUnreachable = 7 // no answer, or a service that is needed is away
)

// usageError is a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

// answered ends the command with a code after everything was said: the answer
// was not a failure, but programs want to tell it from others.
type answered int

func (a answered) Error() string { return fmt.Sprintf("exit %d", int(a)) }

// exitCode is what an error means to programs.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if a, ok := errors.AsType[answered](err); ok {
		return int(a)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*evidence.Tampered](err); ok {
		return exitTampered
	}
	f, ok := fault.As(err)
	switch {
	case ok && (f.Kind == fault.Down || f.Kind == fault.Deadline), !ok && errors.Is(err, context.DeadlineExceeded):
		return exitUnreachable
	case ok && strings.HasPrefix(f.Reason, "STATEMENT_"):
		return exitTampered
	case ok && f.Kind == fault.Exhausted && strings.HasPrefix(f.Reason, "BUDGET"):
		return exitOverBudget
	}
	return exitFailure
}

// conclude tells the person, or the program, what went wrong, and returns the
// exit code.
func (o *operator) conclude(w io.Writer, cmd *cobra.Command, err error) int {
	code := exitCode(err)
	if _, silent := errors.AsType[answered](err); err == nil || silent {
		return code
	}
	switch {
	case o.json():
		o.problem(w, err)
	case code == exitUsage:
		fmt.Fprintf(w, "fulcrum: %s\nnext: %s --help\n", terminal.CleanLines(err.Error()), cmd.CommandPath())
	default:
		o.explain(w, cmd, err)
	}
	return code
}

// problem is an error for programs: one JSON document like the HTTP door's.
func (o *operator) problem(w io.Writer, err error) {
	p := rpc.ProblemOf(err)
	if _, ok := fault.As(err); !ok { // ours: there is nothing to hide from who runs the command
		p.Detail = err.Error()
		if code := rpc.PeerCode(err); code == codes.OK {
			p.Code, p.Reason, p.Title, p.Status = "", "", "", 0
		}
	}
	if t, ok := errors.AsType[*evidence.Tampered](err); ok {
		p.Reason = "TAMPERED"
		p.Meta = map[string]string{"index": fmt.Sprint(t.Index)}
	}
	if err := terminal.Document(w, p); err != nil {
		fmt.Fprintln(w, err)
	}
}

// explain is an error for people: code and message, every wrong field, what to
// do about it.
func (o *operator) explain(w io.Writer, cmd *cobra.Command, err error) {
	f, ok := fault.As(err)
	if !ok {
		fmt.Fprintf(w, "fulcrum: %s\n", terminal.CleanLines(plainly(err)))
		return
	}
	head := rpc.ProblemOf(err).Code
	if reason := f.Code(); reason != head {
		head += " " + reason
	}
	if f.Reason == "UNREACHABLE" {
		o.unreachable(w, f)
		return
	}
	fmt.Fprintf(w, "fulcrum: %s: %s\n", head, terminal.CleanLines(inContext(err, f)))
	var fields terminal.Facts
	for _, v := range f.Violations {
		if v.String() != f.Msg { // the only one is the message
			fields.Add("  "+terminal.Clean(v.Field), v.Description)
		}
	}
	_ = fields.Write(w, false) // there is nowhere left to say that it failed
	if f.Hint != "" {
		fmt.Fprintf(w, "hint: %s\n", terminal.Clean(f.Hint))
	}
	if f.RetryAfter > 0 {
		fmt.Fprintf(w, "retry: after %s\n", f.RetryAfter)
	}
	if next := o.remedy(cmd, f); next != "" {
		fmt.Fprintf(w, "next: %s\n", next)
	}
}

// unreachable is the error of a server that is not there, or no such server.
func (o *operator) unreachable(w io.Writer, f *fault.Error) {
	addr, _ := o.address()
	fmt.Fprintf(w, "fulcrum: UNAVAILABLE: %s cannot be reached\n", terminal.Clean(addr))
	cause := ""
	if f.Cause != nil {
		_, cause, _ = strings.Cut(f.Cause.Error(), `desc = "`)
		cause = strings.TrimSuffix(strings.TrimPrefix(cause, "transport: "), `"`)
	}
	if cause != "" {
		fmt.Fprintf(w, "cause: %s\n", terminal.Clean(cause))
	}
	switch {
	case strings.Contains(cause, "first record does not look like a TLS handshake"):
		fmt.Fprintln(w, "next: add --plaintext if the server is on a private network, or find its TLS door")
	case addr == defaultServer:
		fmt.Fprintln(w, "next: fulcrum up, or name another server with --server host:port")
	default:
		fmt.Fprintf(w, "next: check that %s is the gRPC door and that it runs\n", terminal.Clean(addr))
	}
}

// inContext is the fault's message behind what the command was doing, if it said.
func inContext(err error, f *fault.Error) string {
	if doing, ok := strings.CutSuffix(err.Error(), f.Error()); ok {
		return doing + f.Msg
	}
	return f.Msg
}

// plainly is an error that is no fault. What a server calls internal it has
// written to its log, not to us.
func plainly(err error) string {
	switch {
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case rpc.PeerCode(err) == codes.Unimplemented:
		return "UNIMPLEMENTED: this server does not have what the command needs; is it an older version?"
	case rpc.PeerCode(err) != codes.OK:
		return err.Error() + "\nhint: the server's log says more"
	}
	return err.Error()
}

// remedy is the command that most likely helps.
func (o *operator) remedy(cmd *cobra.Command, f *fault.Error) string {
	noun := "fulcrum"
	if cmd.HasParent() && cmd.Parent().HasParent() {
		noun = cmd.Parent().CommandPath()
	}
	switch f.Kind {
	case fault.Down:
		return "repeat the command; if it lasts, ask /health of the HTTP door what is away"
	case fault.Deadline:
		return "repeat the command with a longer --timeout"
	case fault.Unauthenticated:
		return "export FULCRUM_API_KEY_FILE=FILE with a valid key (a new one: fulcrum key create --tenant TENANT --name NAME --scope '*', with the platform's admin key)"
	case fault.Denied:
		switch {
		case f.Reason == "ADMIN_HAS_NO_TENANT":
			return "fulcrum key create --tenant TENANT --name operator --scope '*' --save operator.key, then use --key-file operator.key"
		case f.Reason == "ADMIN_REQUIRED":
			return "use the platform's admin key (FULCRUM_ADMIN_KEY of the deployment; admin_key in the keys.json of fulcrum up)"
		case f.Meta["scope"] != "":
			return "fulcrum key create --name NAME --scope " + terminal.Clean(f.Meta["scope"])
		}
		return "use the key of somebody who may do this"
	case fault.NotFound:
		if list, _, err := cmd.Root().Find(append(strings.Fields(noun)[1:], "list")); err == nil && list.Name() == "list" {
			return noun + " list"
		}
	case fault.Conflict:
		if cmd.Name() == "push" {
			return "fulcrum policy diff DIR, then push again"
		}
		return "look again (" + noun + " list), then repeat the command"
	case fault.Exhausted:
		if f.RetryAfter > 0 {
			return "repeat the command after " + f.RetryAfter.String()
		}
		return "fulcrum budget status"
	case fault.Invalid:
		return cmd.CommandPath() + " --help"
	}
	return ""
}

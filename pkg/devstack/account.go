package devstack

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is whom PostgreSQL runs as when we are root, which it refuses to be.
// nil is ourselves.
type account struct {
	name string
	attr syscall.SysProcAttr // copied into every command
}

// serverAccount picks the account for a server in folder.
func serverAccount(folder string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "_postgres", "nobody"} {
		found, err := user.Lookup(name)
		if err != nil {
			continue
		}
		// macOS has negative numbers.
		uid, uerr := strconv.ParseInt(found.Uid, 10, 64)
		gid, gerr := strconv.ParseInt(found.Gid, 10, 64)
		if err := errors.Join(uerr, gerr); err != nil {
			return nil, fmt.Errorf("look up account %s: %w", name, err)
		}
		a := &account{name: name}
		a.attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return a, a.reach(folder)
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and there is no account postgres or nobody to run it as")
}

// reach makes sure that the account can enter folder, and gives it the folder.
// Where a parent is closed, such as /root, it lets the server pass, if the
// system can do that.
func (a *account) reach(folder string) error {
	if err := a.own(folder); err != nil {
		return err
	}
	if a.canEnter(folder) {
		return nil
	}
	passEverywhere(&a.attr)
	if !a.canEnter(folder) {
		return fmt.Errorf("PostgreSQL runs as account %s, which may not enter %s: choose another folder", a.name, folder)
	}
	return nil
}

func (a *account) canEnter(folder string) bool {
	return a.command("/bin/sh", "-c", `cd -- "$1"`, "sh", folder).Run() == nil
}

// own gives path to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, int(a.attr.Credential.Uid), int(a.attr.Credential.Gid))
}

// command runs a program as the account, in an environment that is the same on
// every machine, and with messages in English, because we read them.
func (a *account) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C", "TZ=UTC"}
	if a != nil {
		attr := a.attr
		cmd.SysProcAttr = &attr
	}
	return cmd
}

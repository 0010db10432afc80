package devstack

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// initdb makes the data folder, all or nothing: a half-made one has another
// name, and is removed by the next try.
func (c *cluster) initdb(ctx context.Context) error {
	draft, pwfile := c.data+".new", filepath.Join(c.folder, "pwfile")
	for _, leftover := range []string{draft, pwfile} {
		if err := os.RemoveAll(leftover); err != nil {
			return err
		}
	}
	if err := os.WriteFile(pwfile, []byte(c.password+"\n"), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(pwfile) }()
	for _, path := range []string{c.folder, pwfile} {
		if err := c.account.own(path); err != nil {
			return err
		}
	}

	// C.UTF-8 sorts by code point and knows every letter's case. Not every
	// system has it; C does without the letters beyond ASCII.
	err := c.runInitdb(ctx, draft, pwfile, "C.UTF-8")
	if err != nil && strings.Contains(err.Error(), "locale") {
		err = c.runInitdb(ctx, draft, pwfile, "C")
	}
	if err != nil {
		return err
	}
	return os.Rename(draft, c.data)
}

func (c *cluster) runInitdb(ctx context.Context, draft, pwfile, locale string) error {
	args := []string{
		"--pgdata=" + draft, "--username=postgres", "--pwfile=" + pwfile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=" + locale, "--no-instructions",
	}
	if c.noFsync {
		args = append(args, "--no-sync")
	}
	var out bytes.Buffer
	cmd := c.account.command(filepath.Join(c.programs.bin, "initdb"), args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := run(ctx, cmd); ctx.Err() != nil {
		return fmt.Errorf("initdb: %w", err)
	} else if err != nil {
		return fmt.Errorf("initdb: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

// run is cmd.Run with an end: when ctx ends first it kills cmd.
func run(ctx context.Context, cmd *exec.Cmd) error {
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	auditv1 "github.com/fulcrum-io/fulcrum/proto/gen/fulcrum/audit/v1"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/evidence"
	"github.com/fulcrum-io/fulcrum/services/fulcrum/internal/terminal"
)

func (o *operator) auditExport() *cobra.Command {
	return &cobra.Command{
		Use: "export FILE", Short: "Write the whole log into a file that can be verified anywhere", Args: arguments("FILE"),
		Long: `Write the log up to its newest checkpoint into a file: JSON lines, the signed
checkpoint and the public key first, then every entry. It is verified on the way,
and the file appears only when it is whole. "-" writes to standard output.

The file holds what the events say. Keep it as you keep the database.`,
		Example: "  fulcrum audit export acme.jsonl && fulcrum audit verify acme.jsonl --key log.pub",
		RunE: o.ask(func(ctx context.Context, cmd *cobra.Command, c *client, args []string) error {
			if args[0] == "-" {
				_, err := o.export(ctx, cmd, c, cmd.OutOrStdout())
				return err
			}
			f, err := os.CreateTemp(filepath.Dir(args[0]), ".export-*")
			if err != nil {
				return err
			}
			defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
			size, err := o.export(ctx, cmd, c, f)
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
			if err := os.Rename(f.Name(), args[0]); err != nil {
				return err
			}
			doc := exported{File: args[0], Entries: size}
			if err := o.document(cmd, doc, terminalLine(fmt.Sprintf("wrote %s entries to %s", count(size), terminal.Clean(args[0])))); err != nil {
				return err
			}
			o.next(cmd, "fulcrum audit verify %s --key PUBLIC_KEY, on a machine that this server's operator does not run", args[0])
			return nil
		}),
	}
}

// exported is what an export says to programs.
type exported struct {
	File    string `json:"file"`
	Entries int64  `json:"entries"`
}

func (o *operator) export(ctx context.Context, cmd *cobra.Command, c *client, out io.Writer) (int64, error) {
	key, err := c.audit.GetVerificationKey(ctx, &auditv1.GetVerificationKeyRequest{})
	if err != nil {
		return 0, err
	}
	head, err := c.audit.GetLogCheckpoint(ctx, &auditv1.GetLogCheckpointRequest{})
	if err != nil {
		return 0, err
	}
	x, err := evidence.NewExport(out, key.GetVerifierKey(), head.GetCheckpoint())
	if err != nil {
		return 0, err
	}
	p := o.pulse(cmd, "exported")
	defer p.end()
	page := int32(500)
	for at := int64(0); at < x.Size(); {
		resp, err := c.audit.ListEntries(ctx, &auditv1.ListEntriesRequest{StartIndex: at, PageSize: int32(min(int64(page), x.Size()-at))})
		if err != nil {
			if page, err = smaller(ctx, page, err); err != nil {
				return at, err
			}
			continue
		}
		if len(resp.GetEntries()) == 0 {
			break // Close says which entry is missing
		}
		for _, e := range resp.GetEntries() {
			if err := x.Add(e); err != nil {
				return at, err
			}
			at++
		}
		p.set(at, x.Size())
	}
	return x.Size(), x.Close()
}

func (o *operator) auditVerify() *cobra.Command {
	var key, kept string
	var embedded bool
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Verify an export, without any server", Args: arguments("FILE"),
		Long: `Verify an export with nothing but the log's public key: no server is asked. It checks
the checkpoint's signature, that every entry is there, in its place and unchanged,
that every payload has the hash in its leaf, and that the tree of all leaves is the
one that was signed. Payloads that retention or erasure took away are counted.

The public key must come from somewhere else than the file: whoever forges a file
forges the key in it. With --checkpoint the log must also extend a checkpoint that
you kept earlier, which even the owner of the signing key cannot get around.

The exit code is 6 if anything does not hold; the message names the entry.`,
		Example: "  fulcrum audit verify acme.jsonl --key log.pub\n  fulcrum audit verify acme.jsonl --key \"$FULCRUM_AUDIT_PUBLIC_KEY\" --checkpoint checkpoint-2026-11-01.txt",
	}
	cmd.Flags().StringVar(&key, "key", "", "public key of the log, or a file with it (FULCRUM_AUDIT_PUBLIC_KEY)")
	cmd.Flags().StringVar(&kept, "checkpoint", "", "file with a checkpoint that was kept earlier")
	cmd.Flags().BoolVar(&embedded, "trust-embedded-key", false, "believe the key in the file: shows that it is consistent, not who made it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		trusted, err := o.publicKey(key)
		if err != nil {
			return err
		}
		told := "given"
		switch {
		case trusted != "":
		case embedded:
			if trusted, err = evidence.EmbeddedKey(f); err != nil {
				return err
			}
			told = "from the file itself: this shows that it is consistent, not who made it"
		default:
			return usagef("%s needs --key: the public key that the log's operator published (--trust-embedded-key believes the one in the file)", cmd.CommandPath())
		}
		if _, err := evidence.Verifier(trusted); err != nil {
			return usagef("--key: %w", err)
		}
		earlier := ""
		if kept != "" {
			if earlier, err = readAll(cmd, kept); err != nil {
				return err
			}
			if strings.TrimSpace(earlier) == "" {
				return usagef("--checkpoint: %s is empty", kept)
			}
		}
		p := o.pulse(cmd, "verified")
		report, err := evidence.Verify(f, evidence.Options{Key: trusted, Kept: earlier, Progress: func(n int64) { p.set(n, 0) }})
		p.end()
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		return o.verified(cmd, args[0], report, told)
	}
	return cmd
}

// verification is what a verified file says to programs.
type verification struct {
	File       string `json:"file"`
	Verified   bool   `json:"verified"`
	Log        string `json:"log"`
	Key        string `json:"key"`
	Entries    int64  `json:"entries"`
	Payloads   int64  `json:"payloads"`
	Erased     int64  `json:"erased"`
	Root       string `json:"root"`
	First      string `json:"first,omitempty"`
	Last       string `json:"last,omitempty"`
	Checkpoint int64  `json:"extends_checkpoint_of,omitempty"`
}

func (o *operator) verified(cmd *cobra.Command, file string, r evidence.Report, told string) error {
	doc := verification{File: file, Verified: true, Log: r.Origin, Key: r.Key, Entries: r.Entries, Payloads: r.Payloads, Erased: r.Erased,
		Root: r.Root.String(), Checkpoint: max(0, r.Kept)}
	if r.Entries > 0 {
		doc.First, doc.Last = r.First.Format(time.RFC3339Nano), r.Last.Format(time.RFC3339Nano)
	}
	return o.document(cmd, doc, func(out io.Writer, color bool) error {
		var f terminal.Facts
		f.Add("log", r.Origin)
		f.Add("signature", "good, by "+r.Key+" (key "+told+")")
		f.Add("entries", count(r.Entries)+", every one in its place and unchanged")
		f.Add("payloads", fmt.Sprintf("%s have their hashes, %s were taken away by retention or erasure", count(r.Payloads), count(r.Erased)))
		f.Add("tree", "recomputed: "+r.Root.String()+", as signed")
		if r.Kept >= 0 {
			f.Add("history", fmt.Sprintf("the first %s entries are those of the kept checkpoint", count(r.Kept)))
		}
		if r.Entries > 0 {
			f.Add("from", doc.First)
			f.Add("to", doc.Last)
		}
		f.Add("result", "verified")
		return f.Write(out, color)
	})
}

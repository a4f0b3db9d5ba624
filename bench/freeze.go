package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

// freeze is the command that made the folder floor: it writes the tables that a
// ride touches, and its statements, as they are in this tree.
type freeze struct {
	Out      string `help:"Folder for schema.sql and ride.sql." required:"" placeholder:"DIR"`
	Programs string `help:"Folder of the program api; the folder of this program if it isn't given." placeholder:"DIR"`
}

// Run writes the two files.
func (f *freeze) Run(ctx context.Context) (err error) {
	lab, err := openLab(ctx, f.Programs)
	if lab != nil {
		defer func() { err = errors.Join(err, lab.close(ctx)) }()
	}
	if err != nil {
		return err
	}
	const database = "frozen"
	if err := lab.migrated(ctx, database); err != nil {
		return err
	}
	script, err := lab.captureScript(ctx, database)
	if err != nil {
		return err
	}
	bin, err := pgserver.FindBinaries()
	if err != nil {
		return err
	}
	schema, err := exec.CommandContext(ctx, filepath.Join(bin, "pg_dump"), "--schema-only", "--no-owner", "--dbname="+lab.url(database),
		"--table=idempotency_keys", "--table=rides", "--table=audit_records", "--table=staged_jobs").Output()
	if err != nil {
		return fmt.Errorf("pg_dump: %w", err)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(f.Out, "schema.sql"), []byte(definitions(string(schema))), 0o644),
		os.WriteFile(filepath.Join(f.Out, "ride.sql"), []byte(script), 0o644),
	)
}

// definitions returns what defines something in what pg_dump wrote: the rest is
// about the session, for psql, or a comment.
func definitions(dump string) string {
	var b strings.Builder
	for line := range strings.Lines(dump) {
		text := strings.TrimSpace(line)
		if text != "" && !strings.HasPrefix(text, "--") && !strings.HasPrefix(text, `\`) &&
			!strings.HasPrefix(text, "SET ") && !strings.HasPrefix(text, "SELECT pg_catalog.set_config") {
			b.WriteString(line)
		}
	}
	return b.String()
}

package rides

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

// TestWhatARideWrites counts what a ride and its replay send, and the bytes of
// log that Postgres writes for it, without images of full pages. None of that
// depends on the machine or on its load. A COMMIT adds some 40 bytes.
func TestWhatARideWrites(t *testing.T) {
	t.Parallel()
	pgtest.NotOnCitus(t, "its nodes write the log")
	const (
		key        = "0b9c4a1e-3f57-4d0e-9c62-1c1a4f6b7d20"
		statements = 11
		mostBytes  = 3_800
	)
	h := newHarness(t)
	pool, seen := pgtest.Traced(t, h.url)
	p := h.startProcess(t, nil, func(c *phases.Config) { c.Pool, c.Sending = pool, seen.Add })
	for i := range 10 { // then there are pages to write to, and authentication is cached
		p.hailAs(t, h.visa, fmt.Sprint("warm", i)).must(t, 201, "")
	}
	seen.Sent()
	p.hailAs(t, h.visa, key).must(t, 201, "")
	ride := seen.Sent()
	if len(ride) != statements {
		t.Errorf("a ride sends %d statements, want %d: %v", len(ride), statements, ride)
	}
	p.hailAs(t, h.visa, key).must(t, 201, "")
	replay := seen.Sent()
	if len(replay) != 1 || !strings.HasPrefix(strings.TrimSpace(replay[0].SQL), "SELECT") {
		t.Errorf("a replay sends more than one SELECT: %v", replay)
	}
	conn := pgtest.Connect(t, h.url)
	bytes, images := 0, 1
	for try := 0; images > 0 && try < 5; try++ { // a checkpoint in between makes images
		bytes, images = logOf(t, conn, key, ride)
	}
	t.Logf("a ride writes %d bytes of log", bytes)
	if bytes > mostBytes {
		t.Errorf("a ride writes %d bytes of log, want at most %d", bytes, mostBytes)
	}
}

// logOf executes the statements of a ride again, in a transaction that is rolled
// back. It returns how many bytes of log they write, and how many images of
// pages are among them.
func logOf(t *testing.T, conn *pgx.Conn, key string, ride []pgtest.Statement) (bytes, images int) {
	t.Helper()
	pgtest.Execute(t, conn, `BEGIN`)
	defer pgtest.Execute(t, conn, `ROLLBACK`)
	pgtest.Execute(t, conn, `SET LOCAL session_replication_role = replica`) // without tripwires
	pgtest.Execute(t, conn, fmt.Sprintf(`
		DELETE FROM audit_records WHERE ride_id = (SELECT id FROM rides WHERE key = '%[1]s');
		DELETE FROM rides WHERE key = '%[1]s';
		DELETE FROM staged_jobs WHERE key = '%[1]s';
		DELETE FROM idempotency_keys WHERE key = '%[1]s'`, key))
	for _, s := range ride {
		if text := strings.TrimSpace(s.SQL); strings.HasPrefix(text, "BEGIN") || text == "COMMIT" {
			continue
		}
		node := pgtest.Explain(t, conn, "ANALYZE, WAL", s.SQL, s.Args...)
		t.Logf("%5d bytes: %.80s", node.WAL, strings.Join(strings.Fields(s.SQL), " "))
		bytes, images = bytes+node.WAL, images+node.Images
	}
	return bytes, images
}

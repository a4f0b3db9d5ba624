package wire_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestTornPipelines: a transaction commits if enough of its frames arrive,
// however few frames of its answer are read.
func TestTornPipelines(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	eyes, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = eyes.Close(context.Background()) })
	if _, err := eyes.Exec(t.Context(), `CREATE TABLE marks (n int)`); err != nil {
		t.Fatal(err)
	}
	// Three statements of Parse, Bind, Describe and Execute each, and a Sync.
	const frames = 13
	for _, kind := range []wire.Kind{wire.CutPart, wire.CutAnswer} {
		for part := 1; part < frames; part++ {
			line := wire.NewPostgres()
			conn := dial(t, url, line)
			line.Plan(func(_ int, message []byte) wire.Fault {
				if got := line.Frames(message); got != frames {
					t.Errorf("the pipeline has %d frames, want %d", got, frames)
				}
				return wire.Fault{Kind: kind, Part: part}
			})
			var batch pgx.Batch
			batch.Queue(`BEGIN`)
			batch.Queue(`INSERT INTO marks VALUES ($1)`, part)
			batch.Queue(`COMMIT`)
			if err := conn.SendBatch(t.Context(), &batch).Close(); err == nil && part < frames-1 {
				t.Errorf("%s after %d frames went unnoticed", kind, part)
			}
			_ = conn.Close(t.Context())
			line.Wait()
			var marks int
			if err := eyes.QueryRow(t.Context(), `DELETE FROM marks RETURNING 1`).Scan(&marks); err != nil {
				marks = 0
			}
			committed := kind == wire.CutAnswer || part == frames-1 // all but the Sync
			if committed != (marks == 1) {
				t.Errorf("%s after %d frames: %d rows", kind, part, marks)
			}
		}
	}
}

// TestACutEndsAReadThatWaits: pgx reads beside a write that takes long. That
// read must not wait until the server has done what it was sent. Postgres ends
// a statement after ten seconds.
func TestACutEndsAReadThatWaits(t *testing.T) {
	t.Parallel()
	line := wire.NewPostgres()
	conn := dial(t, pgtest.URL(t), line)
	line.Plan(func(int, []byte) wire.Fault {
		time.Sleep(100 * time.Millisecond) // pgx waits 15
		return wire.Fault{Kind: wire.CutSent}
	})
	sent := time.Now()
	if _, err := conn.Exec(t.Context(), `SELECT pg_sleep(9)`); err == nil {
		t.Error("the cut went unnoticed")
	}
	if took := time.Since(sent); took > 7*time.Second {
		t.Errorf("the cut was noticed after %s, when the server was done", took)
	}
	_ = conn.Close(t.Context())
	line.Wait()
}

// dial connects without prepared statements, so that a batch is one message.
func dial(t *testing.T, url string, line *wire.Postgres) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.DialFunc = line.Dial
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestOpenCountsTransactions: a connection counts as open while it is in a
// transaction.
func TestOpenCountsTransactions(t *testing.T) {
	t.Parallel()
	line := wire.NewPostgres()
	conn := dial(t, pgtest.URL(t), line)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	for _, step := range []struct {
		sql  string
		open int
	}{{`SELECT 1`, 0}, {`BEGIN`, 1}, {`SELECT 1`, 1}, {`COMMIT`, 0}} {
		if _, err := conn.Exec(t.Context(), step.sql); err != nil {
			t.Fatal(err)
		}
		if got := line.Open(); got != step.open {
			t.Errorf("after %s %d transactions are open, want %d", step.sql, got, step.open)
		}
	}
}

// TestFaultsOfRequests: for each kind of fault, what the server does and what
// its client gets.
func TestFaultsOfRequests(t *testing.T) {
	t.Parallel()
	const whole = "the body of this request, all of it"
	for _, test := range []struct {
		fault     wire.Fault
		acts      bool // the server gets the whole request
		succeeds  bool // the client gets a status
		bodyReads bool // the client gets the whole answer
	}{
		{fault: wire.Fault{Kind: wire.Pass}, acts: true, succeeds: true, bodyReads: true},
		{fault: wire.Fault{Kind: wire.CutBefore}},
		{fault: wire.Fault{Kind: wire.CutPart, Part: 1}},
		{fault: wire.Fault{Kind: wire.CutPart, Part: 2}},
		{fault: wire.Fault{Kind: wire.CutSent}, acts: true},
		{fault: wire.Fault{Kind: wire.CutAfter}, acts: true},
		{fault: wire.Fault{Kind: wire.CutAnswer, Part: 1}, acts: true},
		{fault: wire.Fault{Kind: wire.CutAnswer, Part: 2}, acts: true, succeeds: true},
		{fault: wire.Fault{Kind: wire.HoldBefore, Hold: func() {}}, acts: true, succeeds: true, bodyReads: true},
		{fault: wire.Fault{Kind: wire.HoldAfter, Hold: func() {}}, acts: true, succeeds: true, bodyReads: true},
	} {
		t.Run(test.fault.Kind.String(), func(t *testing.T) {
			t.Parallel()
			var acted atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if body, err := io.ReadAll(r.Body); err == nil && string(body) == whole {
					acted.Add(1)
				}
				_, _ = io.WriteString(w, "the answer")
			}))
			line := wire.NewHTTP()
			line.Plan(wire.On(1, test.fault))
			transport := &http.Transport{DialContext: line.Dial}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(whole))
			if err != nil {
				t.Fatal(err)
			}
			request.GetBody = nil // or net/http sends it again
			response, err := transport.RoundTrip(request)
			if got := err == nil; got != test.succeeds {
				t.Errorf("the client got %v", err)
			}
			if err == nil {
				body, err := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if got := err == nil && string(body) == "the answer"; got != test.bodyReads {
					t.Errorf("the client read %q, %v", body, err)
				}
			}
			transport.CloseIdleConnections()
			line.Wait()
			server.Close()
			if got := acted.Load() == 1; got != test.acts {
				t.Errorf("the server acted %d times", acted.Load())
			}
			if got := line.Messages(); got != 1 {
				t.Errorf("%d messages were counted, want 1", got)
			}
		})
	}
}

package pgtest

import (
	"context"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Connect returns a connection to url that ends with the test.
func Connect(tb testing.TB, url string) *pgx.Conn {
	tb.Helper()
	conn, err := pgx.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// InMode returns the URL of a database with a mode of pgx, a value of
// default_query_exec_mode, instead of its own.
func InMode(tb testing.TB, address, mode string) string {
	tb.Helper()
	if mode != "exec" && mode != "simple_protocol" {
		NotThroughPooler(tb, mode+" needs prepared statements")
	}
	parsed, err := url.Parse(address)
	if err != nil {
		tb.Fatal(err)
	}
	query := parsed.Query()
	query.Set("default_query_exec_mode", mode)
	parsed.RawQuery = query.Encode()
	return parsed.String()
}

// Execute runs one statement.
func Execute(tb testing.TB, conn *pgx.Conn, sql string) {
	tb.Helper()
	if _, err := conn.Exec(tb.Context(), sql); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
}

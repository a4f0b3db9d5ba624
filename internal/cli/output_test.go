package cli_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/rocketrides/rocketrides/internal/cli"
)

func TestTimesForProgramsHaveSixDigits(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("", 3600)
	value := map[string]any{
		"whole": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"list":  []struct{ At *time.Time }{{new(time.Date(2026, 1, 2, 4, 4, 5, 120_000_000, east))}, {}},
	}
	var out bytes.Buffer
	if err := (cli.Output{Stdout: &out}).Print(true, value, ""); err != nil {
		t.Fatal(err)
	}
	const want = `{"list":[{"At":"2026-01-02T03:04:05.120000Z"},{"At":null}],"whole":"2026-01-02T03:04:05.000000Z"}` + "\n"
	if out.String() != want {
		t.Errorf("got %s, want %s", &out, want)
	}
}

// TestJSONIsThatOfTheStandardLibrary in everything but times.
func TestJSONIsThatOfTheStandardLibrary(t *testing.T) {
	t.Parallel()
	value := struct {
		Name  string         `json:"name"`
		Empty string         `json:"empty,omitempty"`
		Zero  int            `json:"zero,omitempty"`
		Bytes []byte         `json:"bytes"`
		Nil   []string       `json:"nil"`
		Map   map[string]any `json:"map"`
		Wait  time.Duration  `json:"wait"`
	}{Name: `<a> & "é"`, Bytes: []byte("x"), Map: map[string]any{"b": 1, "a": nil}, Wait: time.Second}
	line, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cli.EncodeJSON(value); err != nil || string(got) != string(line) {
		t.Errorf("got %s, %v, want %s", got, err, line)
	}
	indented, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cli.EncodeJSON(value, jsontext.WithIndent("  ")); err != nil || string(got) != string(indented) {
		t.Errorf("got %s, %v, want %s", got, err, indented)
	}
	if _, err := cli.EncodeJSON(func() {}); err == nil {
		t.Error("a function was encoded")
	}
}

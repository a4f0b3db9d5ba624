package rides

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/api"
	"github.com/rocketrides/rocketrides/api/apitest"
)

var update = flag.Bool("update", false, "write the examples of the OpenAPI document again")

// TestTheOpenAPIDocumentSaysWhatTheServiceDoes brings about every answer of the
// document. Its examples are such answers, and nothing can be taken out of it
// without contradicting one.
func TestTheOpenAPIDocumentSaysWhatTheServiceDoes(t *testing.T) {
	t.Parallel()
	tr := takeTour(t)
	if t.Failed() {
		return
	}
	if *update {
		tr.writeExamples(t)
		return
	}
	t.Run("its examples were answered", func(t *testing.T) {
		t.Parallel()
		tr.compareExamples(t)
	})
	t.Run("nothing in it is superfluous", func(t *testing.T) {
		t.Parallel()
		tr.takeAway(t)
	})
}

// TestTheDocumentHasEveryRoute, and no other.
func TestTheDocumentHasEveryRoute(t *testing.T) {
	t.Parallel()
	var documented []string
	for path, item := range checker(t).Doc().Paths.Map() {
		for method := range item.Operations() {
			documented = append(documented, method+" "+path)
		}
	}
	slices.Sort(documented)
	if diff := cmp.Diff(newHarness(t).service.router().Routes(), documented); diff != "" {
		t.Errorf("routes (-served +documented):\n%s", diff)
	}
}

// placeholders take the place of what differs from tour to tour.
var placeholders = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "https://client.example"},
	{regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"`), `"2026-11-26T12:00:00.000000Z"`},
	{regexp.MustCompile(`"created":\d+`), `"created":1795694400`},
	{regexp.MustCompile(`acct_[0-9A-Za-z]{8,}`), "acct_1f2e3d4c5b6a7980"},
	{regexp.MustCompile(`req_[0-9a-f]{32}`), "req_0195f3a2c4d57e8f9a0b1c2d3e4f5a6b"},
	{regexp.MustCompile(`ride_[0-9a-z]{26}`), "ride_9t2k6d1q8r5m3n7p4v0c1f2g3h"},
	{regexp.MustCompile(`\b(ch|pi|re|evt|cus|pm|in|txn)_[0-9A-Z][0-9A-Za-z]{9,}`), "${1}_3QLZ7YtN5vK0"},
	{regexp.MustCompile(`evt_thin_[0-9A-Z]{9,}`), "evt_thin_3QLZ7YtN5vK0"},
	{regexp.MustCompile(`_secret_[0-9A-Za-z]+`), "_secret_example"},
	{regexp.MustCompile(`"metadata":\{[^{}]*\}`), `"metadata":{}`},
}

// plain returns an example without what differs from tour to tour.
func plain(text string) string {
	for _, p := range placeholders {
		text = p.pattern.ReplaceAllString(text, p.with)
	}
	return strings.TrimSuffix(text, "\n")
}

// asJSON returns an example as a value in JSON: a stream is a string.
func asJSON(t *testing.T, text string) []byte {
	t.Helper()
	if json.Valid([]byte(text)) {
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return compact.Bytes()
	}
	encoded, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

const (
	documentPath = "../../api/openapi.yaml"
	examplesPath = "../../api/examples.json"
)

// writeExamples writes the examples into both files.
func (tr *tour) writeExamples(t *testing.T) {
	t.Helper()
	document, err := os.ReadFile(documentPath)
	if err != nil {
		t.Fatal(err)
	}
	const heading = "\n  examples:\n"
	kept := document[:bytes.LastIndex(document, []byte(heading))+len(heading)]
	all := []byte("{\n")
	for i, name := range slices.Sorted(maps.Keys(tr.examples)) {
		value := asJSON(t, plain(tr.examples[name]))
		kept = fmt.Appendf(kept, "    %s:\n      value: %s\n", name, value)
		if i > 0 {
			all = append(all, ",\n"...)
		}
		all = fmt.Appendf(all, "  %q: %s", name, value)
	}
	for path, content := range map[string][]byte{documentPath: kept, examplesPath: append(all, "\n}\n"...)} {
		if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // it is source code
			t.Fatal(err)
		}
	}
}

// compareExamples compares the examples of the document, and those of the pages
// of problems, with what was answered.
func (tr *tour) compareExamples(t *testing.T) {
	t.Helper()
	documented := checker(t).Doc().Components.Examples
	if diff := cmp.Diff(slices.Sorted(maps.Keys(tr.examples)), slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Errorf("examples (-answered +documented):\n%s", diff)
	}
	for name, body := range tr.examples {
		want := asJSON(t, plain(body))
		got, err := json.Marshal(documented[name].Value.Value)
		if err != nil {
			t.Fatal(err)
		}
		for where, example := range map[string][]byte{"openapi.yaml": got, "examples.json": api.Example(name)} {
			if diff := cmp.Diff(valueOf(t, want), valueOf(t, example)); diff != "" {
				t.Errorf("%s in %s (-answered +documented; go test ./internal/rides -run OpenAPI -update):\n%s", name, where, diff)
			}
		}
	}
}

func checker(t *testing.T) *apitest.Checker {
	t.Helper()
	c, err := apitest.NewChecker(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// takeAway takes each response, header, parameter and property out of the
// document in turn: what is left must be contradicted.
func (tr *tour) takeAway(t *testing.T) {
	t.Helper()
	c := checker(t)
	if err := tr.contradiction(c); err != nil {
		t.Fatalf("the whole document is contradicted: %v", err)
	}
	taken := map[string]int{}
	for _, part := range parts(c.Doc()) {
		restore := part.remove()
		if tr.contradiction(c) == nil {
			t.Errorf("nothing needs %s %s", part.of, part.name)
		}
		restore()
		taken[part.of]++
	}
	if diff := cmp.Diff(written(t), taken); diff != "" {
		t.Errorf("what the document has and what was taken away (-has +taken):\n%s", diff)
	}
}

// contradiction returns the fault of the first exchange or callback that is not
// as the document says, or of an answer that doesn't say which problems it may
// have. Parts of the document that stand together are contradicted by the same
// exchanges, so the one that contradicted last is asked first.
func (tr *tour) contradiction(c *apitest.Checker) error {
	if err := problemsWithoutCodes(c.Doc()); err != nil {
		return err
	}
	for i, e := range tr.exchanges {
		if err := c.Check(e); err != nil {
			copy(tr.exchanges[1:], tr.exchanges[:i])
			tr.exchanges[0] = e
			return err
		}
	}
	for _, got := range tr.callbacks {
		if err := c.CheckCallback("hailRide", "rideEnded", got.header, got.body); err != nil {
			return err
		}
	}
	return nil
}

// valueOf decodes JSON.
func valueOf(t *testing.T, encoded []byte) (decoded any) {
	t.Helper()
	if err := json.Unmarshal(encoded, &decoded); err != nil {
		t.Fatalf("%v in %s", err, encoded)
	}
	return decoded
}

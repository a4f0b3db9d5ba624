package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
)

// A check that had nothing to look at proves nothing, and fails in a full run.
func TestChecksThatLookedAtNothing(t *testing.T) {
	t.Parallel()
	checks := []check{{name: "parks", seldom: true}, {name: "p99"}, {name: "looked", looked: 3}}
	var out bytes.Buffer
	if !verdict(&out, checks, nil) {
		t.Errorf("a short run fails:\n%s", &out)
	}
	if n := strings.Count(out.String(), " nothing\n"); n != 2 || strings.Count(out.String(), " ok\n") != 1 {
		t.Errorf("%d checks looked at nothing:\n%s", n, &out)
	}
	failEmpty(checks)
	if got := broken(checks); !slices.Equal(got, []string{"p99"}) {
		t.Errorf("a full run breaks %q", got)
	}
	if verdict(&out, checks, nil) {
		t.Error("a full run passes")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	const think = time.Millisecond
	for name, c := range map[string]struct {
		o    options
		good bool
	}{
		"the shortest run":         {options{Duration: shortestRun, Clients: 1, Think: think}, true},
		"shorter than calm, storm": {options{Duration: shortestRun - 1, Clients: 1, Think: think}, false},
		"nobody asks":              {options{Duration: shortestRun, Think: think}, false},
		"no pause":                 {options{Duration: shortestRun, Clients: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := c.o.check(); (err == nil) != c.good {
				t.Errorf("got %v", err)
			}
		})
	}
	var stdout, stderr bytes.Buffer
	if exit := start(t.Context(), []string{"--duration", "10s", "--schedule"}, &stdout, &stderr); exit != exitFailed {
		t.Errorf("exit code %d: %s", exit, &stderr)
	}
	if exit := start(t.Context(), []string{"--duration", "45s", "--seed", "7", "--schedule"}, &stdout, &stderr); exit != exitKept {
		t.Errorf("exit code %d: %s", exit, &stderr)
	}
}

// TestTheCanaryMustFindALoss: other violations do not count.
func TestTheCanaryMustFindALoss(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{nothingLost: true, nothingWrong: true, onRecord: true, "no internal error": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			c := check{name: name, looked: 1}
			if (options{Canary: true}).announce(&out, []check{c}, true) {
				t.Error("it passes without a loss")
			}
			c.breaks("it is broken")
			if got := (options{Canary: true}).announce(&out, []check{c}, false); got != want {
				t.Errorf("it passes: %t", got)
			}
		})
	}
}

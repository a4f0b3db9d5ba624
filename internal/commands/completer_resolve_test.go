package commands

import (
	"bytes"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// Only whoever says that nothing was charged is warned, and only while Stripe
// would still take the request.
func TestResolveWarnsOfARequestOnItsWay(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, test := range map[string]struct {
		ago        time.Duration
		notCharged bool
		want       string
	}{
		"a moment ago":                       {3200 * time.Millisecond, true, "warning: sent first 3s ago: a request still on its way may charge; `completer audit` finds that\n"},
		"by a database whose clock is ahead": {-time.Second, true, "warning: sent first 0s ago: a request still on its way may charge; `completer audit` finds that\n"},
		"long ago":                           {24 * time.Hour, true, ""},
		"charged":                            {time.Second, false, ""},
		"not sent":                           {0, true, ""},
	} {
		var record phases.Record
		if sent := now.Add(-test.ago); test.ago != 0 {
			record.FirstSentAt = &sent
		}
		var stderr bytes.Buffer
		(&completerKeysResolve{NotCharged: test.notCharged}).warn(cli.Output{Stderr: &stderr}, record, now)
		if got := stderr.String(); got != test.want {
			t.Errorf("%s: it prints %q, want %q", name, got, test.want)
		}
	}
}

func TestOneThingIsNotPlural(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0 refunds or disputes", 1: "1 refund or dispute", 2: "2 refunds or disputes"} {
		if got := several(n, "refund or dispute", "refunds or disputes"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

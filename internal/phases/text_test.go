package phases_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// TestAnyErrorTextCanBeStored: a text that Postgres doesn't take must not keep a
// key from being released or parked.
func TestAnyErrorTextCanBeStored(t *testing.T) {
	t.Parallel()
	odd := "a\x00b\xff" + strings.Repeat("é", 5000)
	for name, test := range map[string]struct {
		hooks  hooks
		parked string
		want   string
	}{
		"a failure": {hooks: hooks{before: func(context.Context, int) error { return errors.New(odd) }}, want: "a\uFFFDb\uFFFDé"},
		"a park":    {hooks: hooks{answer: odd}, parked: "odd_booking", want: "a\uFFFDb\uFFFDé"},
		"a look-up": {hooks: hooks{
			before: func(context.Context, int) error {
				return &phases.CallError{Class: phases.LookUp, Reason: "lost", Err: errors.New(odd)}
			},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.carrier.set(test.hooks)
			if _, err := b.run(t, "k"); err == nil {
				t.Fatal("the attempt succeeded")
			}
			record := b.show(t, "k")
			if record.Leased {
				t.Errorf("the key is still leased: %+v", record)
			}
			if test.parked != "" && record.ParkedReason != test.parked {
				t.Errorf("the key is parked for %q, want %q", record.ParkedReason, test.parked)
			}
			if test.want != "" && !strings.Contains(record.LastError, test.want) {
				t.Errorf("its last error is %.40q, want %q in it", record.LastError, test.want)
			}
			if len(record.LastError) > 2000 || !utf8.ValidString(record.LastError) {
				t.Errorf("its last error has %d bytes", len(record.LastError))
			}
		})
	}
}

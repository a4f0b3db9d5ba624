package payments

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/api"
	"github.com/rocketrides/rocketrides/api/apitest"
)

// TestTheDocumentHasTheEventsThatAreWorked: whoever points a webhook endpoint
// of Stripe's here reads in the OpenAPI document which events to choose.
func TestTheDocumentHasTheEventsThatAreWorked(t *testing.T) {
	t.Parallel()
	checker, err := apitest.NewChecker(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	documented, _ := checker.Doc().Paths.Value("/v1/stripe/events").Post.Extensions["x-stripe-events"].([]any)
	var got []string
	for _, kind := range documented {
		got = append(got, fmt.Sprint(kind))
	}
	slices.Sort(got)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(eventTypes)), got); diff != "" {
		t.Errorf("events (-worked +documented):\n%s", diff)
	}
	limits, _ := checker.Doc().Extensions["x-limits"].(map[string]any)
	if got := fmt.Sprint(limits["eventBytes"]); got != strconv.Itoa(MaxEvent) {
		t.Errorf("x-limits has %s for eventBytes, want %d", got, MaxEvent)
	}
}

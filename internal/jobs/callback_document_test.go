package jobs

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/api"
	"github.com/rocketrides/rocketrides/api/apitest"
	"github.com/rocketrides/rocketrides/internal/callbacks"
)

// TestTheDocumentHasTheAnswersToCallbacks: each status that ends a callback or
// slows its host down is in the OpenAPI document, and every other is "default".
func TestTheDocumentHasTheAnswersToCallbacks(t *testing.T) {
	t.Parallel()
	checker, err := apitest.NewChecker(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	judged := map[string]bool{}
	for code := 200; code < 600; code++ {
		switch result := judge(callbacks.Answer{Status: code}, nil, 1); {
		case result.status == statusDelivered:
			judged[fmt.Sprintf("%dXX", code/100)] = true
		case result.status != statusPending || result.pause > 0:
			judged[strconv.Itoa(code)] = true
		default:
			judged["default"] = true
		}
	}
	told := checker.Doc().Paths.Value("/v1/rides").Post.Callbacks["rideEnded"]
	if told == nil {
		t.Fatal("the document has no callbacks")
	}
	for _, item := range told.Value.Map() {
		documented := slices.Sorted(maps.Keys(item.Post.Responses.Map()))
		if diff := cmp.Diff(slices.Sorted(maps.Keys(judged)), documented); diff != "" {
			t.Errorf("answers to callbacks (-judged +documented):\n%s", diff)
		}
	}
}

package payments

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
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

// TestTheDocumentHasWhatIsReadOfAnEvent, and nothing else.
func TestTheDocumentHasWhatIsReadOfAnEvent(t *testing.T) {
	t.Parallel()
	checker, err := apitest.NewChecker(api.Document())
	if err != nil {
		t.Fatal(err)
	}
	schema, err := checker.Schema("StripeEvent")
	if err != nil {
		t.Fatal(err)
	}
	got, want := documentedFields("", schema), readFields("", reflect.TypeFor[eventShape]())
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields of an event (-read +documented):\n%s", diff)
	}
}

func documentedFields(prefix string, schema *openapi3.Schema) (fields []string) {
	for name, property := range schema.Properties {
		fields = append(fields, prefix+name)
		fields = append(fields, documentedFields(prefix+name+".", property.Value)...)
	}
	return fields
}

func readFields(prefix string, shape reflect.Type) (fields []string) {
	if shape.Kind() != reflect.Struct {
		return nil
	}
	for field := range shape.Fields() {
		name := prefix + field.Tag.Get("json")
		fields = append(fields, name)
		fields = append(fields, readFields(name+".", field.Type)...)
	}
	return fields
}

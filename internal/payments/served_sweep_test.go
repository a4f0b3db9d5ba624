package payments

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"
)

// TestWhatChangedIsReadWhole: all pages of refunds and disputes since a time,
// or an error.
func TestWhatChangedIsReadWhole(t *testing.T) {
	t.Parallel()
	refund := func(id string) object { return object{"id": id, "object": "refund"} }
	dispute := object{"id": "dp_1", "object": "dispute"}
	failing := answerError(http.StatusInternalServerError, "api_error", "", nil)
	since := time.Unix(1800000000, 0)
	for name, c := range map[string]struct {
		refunds, disputes []http.HandlerFunc
		want              []string
		failed            bool
	}{
		"two pages":               {[]http.HandlerFunc{answerPage(true, refund("re_2")), answerPage(false, refund("re_1"))}, []http.HandlerFunc{answerPage(false, dispute)}, []string{"refund re_2", "refund re_1", "dispute dp_1"}, false},
		"nothing":                 {[]http.HandlerFunc{answerPage(false)}, []http.HandlerFunc{answerPage(false)}, nil, false},
		"a second page is lost":   {[]http.HandlerFunc{answerPage(true, refund("re_2")), failing}, nil, []string{"refund re_2"}, true},
		"the disputes are lost":   {[]http.HandlerFunc{answerPage(false, refund("re_2"))}, []http.HandlerFunc{failing}, []string{"refund re_2"}, true},
		"the refunds aren't told": {[]http.HandlerFunc{answerWith(http.StatusOK, "{}")}, nil, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers := map[string][]http.HandlerFunc{routeRefunds: c.refunds}
			if c.disputes != nil {
				answers[routeDisputes] = c.disputes
			}
			server := newStripeServer(t, answers)
			client, _ := server.client(t, nil)
			var got []string
			err := client.RefundsAndDisputes(t.Context(), since, func(kind ObjectKind, id string) error {
				got = append(got, string(kind)+" "+id)
				return nil
			})
			if !slices.Equal(got, c.want) || (err != nil) != c.failed {
				t.Errorf("read %q, %v", got, err)
			}
			for _, asked := range server.received(routeRefunds) {
				values, err := url.ParseQuery(asked.query)
				if err != nil || values.Get("created[gte]") != "1800000000" {
					t.Errorf("asked for %s, %v", asked.query, err)
				}
			}
		})
	}
}

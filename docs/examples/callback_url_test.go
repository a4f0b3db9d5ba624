package examples_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/rocketrides/rocketrides/internal/rides/ridestest"
)

// A null where a client sent nothing before makes another request of it, and
// its key is refused.
func TestACallbackURLIsSentIfItIsGiven(t *testing.T) {
	t.Parallel()
	service := ridestest.Start(t)
	const address = "https://example.com/hook"
	forEach(t, func(t *testing.T, run runner) {
		t.Helper()
		for _, urls := range [][]string{{}, {address}} {
			var sent map[string]any
			g := &gateway{service: service.Handler, faults: []func(http.ResponseWriter, *http.Request, http.Handler){
				func(w http.ResponseWriter, r *http.Request, service http.Handler) {
					body, err := io.ReadAll(r.Body)
					if err != nil || json.Unmarshal(body, &sent) != nil {
						t.Errorf("%v: %s", err, body)
					}
					r.Body = io.NopCloser(bytes.NewReader(body))
					service.ServeHTTP(w, r)
				},
			}}
			key := fmt.Sprintf("%s-%d", t.Name(), len(urls))
			got := run(t, map[string]any{"url": serve(t, g), "api_key": service.APIKey, "key": key, "retries": 0, "callback_urls": urls})
			value, there := sent["callback_url"]
			if got.Ride.Status != "charged" || there != (len(urls) == 1) || there && value != address {
				t.Errorf("with %v: sent %v, got %+v", urls, sent, got)
			}
		}
	})
}

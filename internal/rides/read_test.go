package rides

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// listPages returns the rides of the account visa, read page by page. There may
// be four pages at most.
func (h *harness) listPages(t *testing.T, limit int) (rides []Ride) {
	t.Helper()
	path := fmt.Sprint("/v1/rides?limit=", limit)
	for range 4 {
		list := decode[rideList](t, h.send(t, call{method: "GET", path: path, as: h.visa}).must(t, 200, ""))
		rides = append(rides, list.Data...)
		if !list.HasMore {
			return rides
		}
		path = fmt.Sprintf("/v1/rides?limit=%d&starting_after=%s", limit, rides[len(rides)-1].ID)
	}
	t.Fatal("the list never ends")
	return nil
}

func TestListing(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for i := range 7 {
		h.hailAs(t, h.visa, fmt.Sprint("k", i)).must(t, 201, "")
	}
	h.hailAs(t, h.second, "k0").must(t, 201, "")
	var keys []string
	for _, ride := range h.listPages(t, 3) {
		keys = append(keys, ride.IdempotencyKey)
	}
	if diff := cmp.Diff([]string{"k6", "k5", "k4", "k3", "k2", "k1", "k0"}, keys); diff != "" {
		t.Error(diff)
	}
	one := decode[rideList](t, h.send(t, call{method: "GET", path: "/v1/rides?idempotency_key=k3", as: h.visa}))
	if len(one.Data) != 1 || one.Data[0].IdempotencyKey != "k3" || one.HasMore {
		t.Errorf("by key: %+v", one)
	}
	quoted := decode[rideList](t, h.send(t, call{method: "GET", path: "/v1/rides?idempotency_key=%22k3%22", as: h.visa}))
	if diff := cmp.Diff(one, quoted); diff != "" {
		t.Errorf("the key in quotation marks lists another ride:\n%s", diff)
	}
	none := h.send(t, call{method: "GET", path: "/v1/rides?idempotency_key=other", as: h.visa})
	if !strings.Contains(none.body, `"data":[]`) {
		t.Errorf("an empty list is %s", none.body)
	}
}

// TestListingOfOneTime: rides that share a COMMIT share their time too. Each of
// them is on one page.
func TestListingOfOneTime(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	var want []string
	for i := range 7 {
		want = append(want, h.hailAs(t, h.visa, fmt.Sprint("k", i)).must(t, 201, "").ride.ID)
	}
	h.exec(t, `UPDATE rides SET created_at = now()`)
	slices.Sort(want)
	slices.Reverse(want)
	var got []string
	for _, ride := range h.listPages(t, 2) {
		got = append(got, ride.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestHead: HEAD is answered like GET, without the body (RFC 9110, section
// 9.3.2).
func TestHead(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ride := h.hailAs(t, h.visa, "k").must(t, 201, "").ride
	for _, path := range []string{"/v1/rides", "/v1/rides/" + ride.ID} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodHead, h.api+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+h.visa.APIKey.Reveal())
		response, err := h.roundTrip(t, request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || len(body) > 0 || response.Body.Close() != nil {
			t.Errorf("%s: a body of %d bytes, %v", path, len(body), err)
		}
		got := h.send(t, call{method: "GET", path: path, as: h.visa})
		if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/json" || response.ContentLength != int64(len(got.body)) {
			t.Errorf("%s: %d, %q, length %d; GET has %d bytes", path, response.StatusCode,
				response.Header.Get("Content-Type"), response.ContentLength, len(got.body))
		}
	}
}

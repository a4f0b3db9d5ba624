package fakestripe

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// row is what the model knows of a payment intent.
type row struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Created  int64  `json:"created"`
}

// pageOf is a page as it comes over the wire.
type pageOf struct {
	Object  string `json:"object"`
	URL     string `json:"url"`
	HasMore bool   `json:"has_more"`
	Data    []row  `json:"data"`
}

// direct sends a request without a network, for tests that send thousands.
func direct(t *rapid.T, s *Server, method, path, form string, into any) {
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(form))
	r.Header.Set("Authorization", "Bearer sk_test_123")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

// fill makes payment intents of two customers over some seconds. It returns
// them newest first, and one that is much older.
func fill(t *rapid.T, s *Server) (rows []row, oldest row) {
	direct(t, s, http.MethodPost, intents, "amount=100&currency=usd", &oldest)
	step := 100 * time.Second
	for n := rapid.IntRange(0, 30).Draw(t, "rows"); ; n-- {
		if err := s.Advance(step); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return rows, oldest
		}
		var made row
		customer := rapid.SampledFrom([]string{"cus_visa", "cus_second"}).Draw(t, "customer")
		direct(t, s, http.MethodPost, intents, "amount=100&currency=usd&customer="+customer, &made)
		rows = slices.Insert(rows, 0, made)
		step = time.Duration(rapid.IntRange(0, 2).Draw(t, "seconds")) * time.Second
	}
}

// For any filters and any size of pages, the pages in either direction together
// show each matching object once, newest first, and has_more reports whether
// there is another page.
func TestCursorsShowEachMatchingObjectOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, err := Open(Options{})
		if err != nil {
			t.Fatal(err)
		}
		rows, oldest := fill(t, s)
		now := s.clock().Unix()
		customer := rapid.SampledFrom([]string{"", "cus_visa", "cus_declined"}).Draw(t, "filter")
		from, to := rapid.Int64Range(now-70, now).Draw(t, "from"), rapid.Int64Range(now-70, now+1).Draw(t, "to")
		limit := rapid.IntRange(1, 7).Draw(t, "limit")
		query := fmt.Sprintf("%s?limit=%d&created[gte]=%d&created[lt]=%d", intents, limit, from, to)
		if customer != "" {
			query += "&customer=" + customer
		}
		want := slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
			return customer != "" && r.Customer != customer || r.Created < from || r.Created >= to
		})
		if diff := cmp.Diff(want, forwards(t, s, query, limit), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("forwards (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, backwards(t, s, query, limit, oldest.ID), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("backwards (-want +got):\n%s", diff)
		}
	})
}

// next reads one page. A page with has_more must be full.
func next(t *rapid.T, s *Server, query string, limit int) pageOf {
	var p pageOf
	direct(t, s, http.MethodGet, query, "", &p)
	if p.Object != "list" || p.URL != intents || len(p.Data) > limit || p.HasMore && len(p.Data) < limit {
		t.Fatalf("%s: a page of %d is %+v", query, limit, p)
	}
	return p
}

func forwards(t *rapid.T, s *Server, query string, limit int) []row {
	p := next(t, s, query, limit)
	all := p.Data
	for p.HasMore {
		p = next(t, s, query+"&starting_after="+all[len(all)-1].ID, limit)
		if len(p.Data) == 0 {
			t.Fatal("has_more was true before an empty page")
		}
		all = append(all, p.Data...)
	}
	return all
}

func backwards(t *rapid.T, s *Server, query string, limit int, cursor string) []row {
	p := next(t, s, query+"&ending_before="+cursor, limit)
	all := p.Data
	for p.HasMore {
		p = next(t, s, query+"&ending_before="+all[0].ID, limit)
		if len(p.Data) == 0 {
			t.Fatal("has_more was true before an empty page")
		}
		all = append(slices.Clone(p.Data), all...)
	}
	return all
}

func TestListsAreFilteredAndLimited(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	for range 12 {
		f.post(t, intents, "", hail("r"))
	}
	other := f.post(t, intents, "", hail("r", "customer", "cus_second", "payment_method", "pm_second"))
	f.read(t, intents).want(t, 200, "data.0.id", other.get("id"), "data.9.object", "payment_intent", "data.10", "<missing>", "has_more", "true")
	f.read(t, intents+"?limit=100").want(t, 200, "data.12.object", "payment_intent", "has_more", "false")
	f.read(t, intents+"?customer=cus_second&expand[]=data.latest_charge").want(t, 200,
		"data.0.latest_charge.object", "charge", "data.1", "<missing>", "has_more", "false")
	f.read(t, "/v1/charges?customer=cus_second&expand[]=data.payment_intent").want(t, 200,
		"data.0.payment_intent.id", other.get("id"), "data.1", "<missing>", "url", "/v1/charges")
	created := other.get("created")
	f.read(t, intents+"?created="+created).want(t, 200, "data.0.id", other.get("id"))
	f.read(t, intents+"?created[gt]="+created).want(t, 200, "data.0", "<missing>")
	f.read(t, intents+"?created[lte]="+created).want(t, 200, "data.0.id", other.get("id"))
}

func TestBadListParametersAreRefused(t *testing.T) {
	t.Parallel()
	f := open(t, Options{})
	id := f.post(t, intents, "", hail("r")).get("id")
	for query, param := range map[string]string{
		"limit=0": "limit", "limit=101": "limit", "limit=x": "limit", "limit=-1": "limit",
		"customer=cus_none": "customer", "starting_after=pi_none": "starting_after", "ending_before=pi_none": "ending_before",
		"starting_after=" + id + "&ending_before=" + id: "<missing>",
		"created=yesterday":                             "created", "created[gte]=-1": "created[gte]", "created[eq]=1": "created[eq]",
		"expand[]=latest_charge": "expand", "status=succeeded": "status", "metadata[ride_id]=r": "metadata[ride_id]",
	} {
		f.read(t, intents+"?"+query).want(t, 400, "error.param", param)
	}
}

package web

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/dunglas/httpsfv"

	"github.com/rocketrides/rocketrides/internal/limit"
)

// Who opened the connection is the client. X-Forwarded-For is believed only of
// proxies that are trusted, and only as far as they reach.
func TestWhoTheClientIs(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, test := range map[string]struct {
		proxies   []netip.Prefix
		remote    string
		forwarded []string
		want      string
	}{
		"nobody is trusted":          {nil, "203.0.113.7:1234", []string{"198.51.100.1"}, "203.0.113.7"},
		"a stranger claims":          {trusted, "203.0.113.7:1234", []string{"198.51.100.1"}, "203.0.113.7"},
		"a proxy says":               {trusted, "10.1.2.3:1234", []string{"198.51.100.1"}, "198.51.100.1"},
		"a client lies to a proxy":   {trusted, "10.1.2.3:1234", []string{"192.0.2.1, 198.51.100.1"}, "198.51.100.1"},
		"a client lies on two lines": {trusted, "10.1.2.3:1234", []string{"192.0.2.1", "198.51.100.1"}, "198.51.100.1"},
		"two proxies":                {trusted, "10.1.2.3:1234", []string{"192.0.2.1, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		"a proxy says nonsense":      {trusted, "10.1.2.3:1234", []string{"198.51.100.1, x"}, ""},
		"IPv6":                       {nil, "[2001:db8:1:2:3:4:5:6]:1234", nil, "2001:db8:1:2::/64"},
		"IPv6 of the same customer":  {nil, "[2001:db8:1:2::1]:1234", nil, "2001:db8:1:2::/64"},
		"IPv4 in IPv6":               {nil, "[::ffff:203.0.113.7]:1234", nil, "203.0.113.7"},
		"a link":                     {nil, "[fe80::1%eth0]:1234", nil, "fe80::/64"},
	} {
		router := NewRouter(slog.New(slog.DiscardHandler), nil)
		router.TrustProxies(test.proxies)
		got := "not served"
		router.Get("/", func(w http.ResponseWriter, r *Request) error {
			got = r.Client()
			return AnswerJSON(w, r, http.StatusOK, nil)
		})
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		request.RemoteAddr = test.remote
		request.Header["X-Forwarded-For"] = test.forwarded
		router.ServeHTTP(httptest.NewRecorder(), request)
		if got != test.want {
			t.Errorf("%s: the client is %q, want %q", name, got, test.want)
		}
	}
}

// The fields are Lists of structured fields, whose one member is the policy's
// name with Integers as parameters.
func TestRateLimitFields(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		buckets := limit.NewBuckets(limit.Rate{PerSecond: 100, Burst: 201})
		header := http.Header{}
		for range 51 {
			if err := Limit(header, buckets, "acct_1"); err != nil {
				t.Fatal(err)
			}
		}
		for field, params := range map[string]map[string]int64{
			"RateLimit-Policy": {"q": 201, "w": 3},
			"RateLimit":        {"r": 150, "t": 1},
		} {
			list, err := httpsfv.UnmarshalList(header.Values(field))
			if err != nil || len(list) != 1 {
				t.Fatalf("%s: %q is no list of one member: %v", field, header.Values(field), err)
			}
			item, _ := list[0].(httpsfv.Item)
			if item.Value != "account" || len(item.Params.Names()) != len(params) {
				t.Errorf("%s is %q", field, header.Get(field))
			}
			for name, want := range params {
				if got, _ := item.Params.Get(name); got != want {
					t.Errorf("%s: %s is %v, want %d", field, name, got, want)
				}
			}
		}
	})
}

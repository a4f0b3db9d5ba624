package rides

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/internal/web/webtest"
)

// TestOneKeyIsOneRequestInAnySpelling: over HTTP and with a database, every
// spelling of a request under its key is a replay, and no other request is.
func TestOneKeyIsOneRequestInAnySpelling(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	turn := 0
	rapid.Check(t, func(rt *rapid.T) {
		turn++
		key := fmt.Sprintf("k-%d", turn)
		latitudes := rapid.SampledFrom([]any{0.0, 37.7749, 90.0, -33.5, 1e-7})
		ride := func(name string) any {
			point := func(end string) any {
				return map[string]any{"lat": latitudes.Draw(rt, name+end+" lat"), "lon": latitudes.Draw(rt, name+end+" lon")}
			}
			origin := point(" origin")
			document := map[string]any{"origin": origin, "target": origin}
			if hook := rapid.SampledFrom([]any{false, nil, "https://example.com/ü?a=/"}).Draw(rt, name+" hook"); hook != false {
				document["callback_url"] = hook
			}
			return document
		}
		one, two := ride("one"), ride("two")
		send := func(document any, key string) reply {
			return h.send(t, call{method: "POST", path: "/v1/rides", body: webtest.Spell(rt, document), key: key, as: h.visa})
		}
		first := send(one, key)
		again := send(one, `"`+key+`"`)
		if first.status != 201 || again.status != 201 || again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
			rt.Fatalf("%v is answered %d %s, then %d %s", one, first.status, first.body, again.status, again.body)
		}
		want := web.CodeIdempotencyKeyReused
		if fmt.Sprintf("%#v", one) == fmt.Sprintf("%#v", two) {
			want = ""
		}
		if other := send(two, key); other.problem.Code != want {
			rt.Fatalf("after %v, %v is answered %d %s", one, two, other.status, other.body)
		}
	})
	if n := number(t, h, `SELECT count(*) FROM rides`); n != turn || len(h.fake.PaymentIntents()) != turn {
		t.Errorf("%d requests made %d rides and %d payment intents", turn, n, len(h.fake.PaymentIntents()))
	}
	h.checkSends(t)
}

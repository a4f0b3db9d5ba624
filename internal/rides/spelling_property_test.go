package rides

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// request is everything that tells one request from another.
type request struct {
	method, route string
	ids           []string
	document      any
}

// requests come from a few values that could run into one another.
func requests(t *rapid.T, name string) request {
	t.Helper()
	word := rapid.SampledFrom([]string{"", "POST", "/v1/rides", "/v1/rides/{id}/cancel", "ride_1", "{}", "\x00", "POST/v1/rides"})
	return request{
		method: word.Draw(t, name+" method"), route: word.Draw(t, name+" route"),
		ids: rapid.SliceOfN(word, 0, 3).Draw(t, name+" ids"), document: documents(1).Draw(t, name+" document"),
	}
}

func (r request) hash(t *rapid.T) [32]byte {
	t.Helper()
	return RequestHash(r.method, r.route, r.ids, []byte(canonical(t, spell(t, r.document))))
}

// nearly is one with a part of two, or with its own text cut elsewhere.
func nearly(t *rapid.T, one, two request) request {
	t.Helper()
	switch rapid.IntRange(0, 5).Draw(t, "part") {
	case 0:
		one.method = two.method
	case 1:
		one.route = two.route
	case 2:
		one.ids = two.ids
	case 3:
		one.document = two.document
	case 4:
		text := one.method + one.route
		place := rapid.IntRange(0, len(text)).Draw(t, "cut")
		one.method, one.route = text[:place], text[place:]
	case 5:
		one.ids = []string{strings.Join(one.ids, "")}
	}
	return one
}

func TestRequestsHashAlikeOnlyWhenTheyAreOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one, two := requests(t, "one"), requests(t, "two")
		if rapid.Bool().Draw(t, "near") { // else hardly any pair has all but one part in common
			two = nearly(t, one, two)
		}
		same := fmt.Sprintf("%#v", one) == fmt.Sprintf("%#v", two) && slices.Equal(one.ids, two.ids)
		if hashed := one.hash(t) == two.hash(t); hashed != same {
			t.Fatalf("%#v and %#v: equal %t, hashed alike %t", one, two, same, hashed)
		}
	})
}

// Over HTTP, on a database: whatever the spelling, one key is one request.
func TestOneKeyIsOneRequestInAnySpelling(t *testing.T) {
	t.Parallel()
	w := newTown(t)
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
			return w.send(t, call{method: "POST", path: "/v1/rides", body: spell(rt, document), key: key, as: w.visa})
		}
		first := send(one, key)
		again := send(one, `"`+key+`"`)
		if first.status != 201 || again.status != 201 || again.body != first.body || again.header.Get("Idempotent-Replayed") != "true" {
			rt.Fatalf("%v is answered %d %s, then %d %s", one, first.status, first.body, again.status, again.body)
		}
		want := CodeIdempotencyKeyReused
		if fmt.Sprintf("%#v", one) == fmt.Sprintf("%#v", two) {
			want = ""
		}
		if other := send(two, key); other.problem.Code != want {
			rt.Fatalf("after %v, %v is answered %d %s", one, two, other.status, other.body)
		}
	})
	if n := number(t, w, `SELECT count(*) FROM rides`); n != turn || len(w.fake.PaymentIntents()) != turn {
		t.Errorf("%d requests made %d rides and %d payment intents", turn, n, len(w.fake.PaymentIntents()))
	}
	w.checkSends(t)
}

// The fake's form parser and stripe-go's encoder understand each other in every character that both take.
func TestStripeFakeReadsWhatIsSent(t *testing.T) {
	t.Parallel()
	f := openFake(t, nil)
	text := rapid.StringOfN(rapid.RuneFrom([]rune{'a', 'Z', '0', ' ', '+', '%', '&', '=', '[', ']', '"', '\\', '\n', 'ü', '€', '😀', '\u2028', '~', ';'}), 1, 40, -1)
	turn := 0
	rapid.Check(t, func(rt *rapid.T) {
		turn++
		terms := chargeTerms{
			Amount: rapid.Int64Range(50, 99_999_999).Draw(rt, "amount"), Currency: "usd", Customer: "cus_visa", PaymentMethod: "pm_visa",
			Description: text.Draw(rt, "description"), RideID: text.Draw(rt, "ride"), AccountID: text.Draw(rt, "account"), Operation: fmt.Sprint("op", turn),
		}
		sent := fakeSent("pm_visa")
		sent.Key, sent.Form = terms.Operation, newChargeForm(terms)
		charge, err := f.Charge(t.Context(), sent)
		if err != nil || charge.Status != ChargeSucceeded {
			rt.Fatalf("%+v: %+v, %v", terms, charge, err)
		}
		intents := f.PaymentIntents()
		made := intents[slices.IndexFunc(intents, func(i fakestripe.PaymentIntent) bool { return i.ID == charge.IntentID })]
		if made.Amount != terms.Amount ||
			made.Metadata["ride_id"] != terms.RideID || made.Metadata["account_id"] != terms.AccountID {
			rt.Fatalf("%+v was read as %+v", terms, made)
		}
		sends := f.Ledger()
		got := sends[len(sends)-1]
		if got.Params["description"] != terms.Description || got.Params["metadata[operation]"] != got.Key || got.Body != string(sent.Form) {
			rt.Fatalf("%+v is in the ledger as %+v", terms, got)
		}
	})
}

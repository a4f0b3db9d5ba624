package rides

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/rocketrides/rocketrides/internal/callbacks"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/internal/web/webtest"
)

// FuzzSpelling compares with encoding/json, an independent parser: it reads the
// same in a document and in its canonical form, and another spelling of what it
// reads has the same canonical form.
func FuzzSpelling(f *testing.F) {
	for _, seed := range []string{
		aRide, `{"b":1.0,"a":[1e0,-0,"\u0041\ud83d\ude00"]}`, "{\"\ufb33\":1,\"\U0001f600\":2}", `[1e999,-1E+999,1e-999]`, `"<\/script>\u2028"`,
		`{"a":{"":[{},[],null,true,false]}}`, `123456789012345678901234567890`, `{"a":1,"\u0061":2}`, `"\ud800"`, "\"\x80\"", `{"A":1,"a":1}`, ` 0.1e1 `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		canonical, err := web.Canonical(doc)
		if err != nil {
			knownRefusal(t, doc, err)
			return
		}
		meant, read := meaning(t, doc), meaning(t, canonical)
		if diff := cmp.Diff(meant, read); diff != "" {
			t.Fatalf("%q as %s (-document +canonical):\n%s", doc, canonical, diff)
		}
		other := respelled(meant)
		if again, err := web.Canonical([]byte(other)); err != nil || !bytes.Equal(again, canonical) {
			t.Fatalf("%q is %s, but respelled as %s it is %s (%v)", doc, canonical, other, again, err)
		}
	})
}

// knownRefusal fails the test unless the error is a known reason to refuse what
// encoding/json accepts: it takes the last of two members with one name, and
// replaces invalid text.
func knownRefusal(t *testing.T, doc []byte, err error) {
	t.Helper()
	if !stdjson.Valid(doc) {
		return
	}
	for _, reason := range []string{"two members of the same name", "UTF-8", "surrogate", "more than 64 deep"} {
		if strings.Contains(err.Error(), reason) {
			return
		}
	}
	t.Fatalf("%q is refused (%v), but encoding/json accepts it", doc, err)
}

// meaning decodes a document, with each number as its float64, or as its text
// if it has none.
func meaning(t *testing.T, doc []byte) any {
	t.Helper()
	decoder := stdjson.NewDecoder(bytes.NewReader(doc))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%q is accepted, but encoding/json says %v", doc, err)
	}
	return floats(value)
}

func floats(value any) any {
	switch v := value.(type) {
	case stdjson.Number:
		if number, err := v.Float64(); err == nil {
			return number + 0 // no -0
		}
		return webtest.Overflow(v)
	case []any:
		for i := range v {
			v[i] = floats(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = floats(v[name])
		}
	}
	return value
}

// respelled writes a value as differently from the canonical form as JSON
// allows.
func respelled(value any) string {
	switch v := value.(type) {
	case float64:
		return strconv.FormatFloat(v, 'E', -1, 64)
	case webtest.Overflow:
		return string(v)
	case string:
		var out strings.Builder
		for _, unit := range utf16.Encode([]rune(v)) {
			fmt.Fprintf(&out, `\u%04X`, unit)
		}
		return `"` + out.String() + `"`
	case []any:
		items := make([]string, 0, len(v))
		for _, item := range v {
			items = append(items, respelled(item))
		}
		return "[ " + strings.Join(items, "\n,\t") + " ]"
	case map[string]any:
		names := slices.Sorted(maps.Keys(v))
		slices.Reverse(names)
		members := make([]string, 0, len(v))
		for _, name := range names {
			members = append(members, respelled(name)+"\r:"+respelled(v[name]))
		}
		return "{ " + strings.Join(members, " , ") + " }"
	case nil:
		return " null"
	default:
		return fmt.Sprint(v)
	}
}

// strictRide is the parameters of a ride for another parser to read.
type strictRide struct {
	Origin      *strictPoint `json:"origin"`
	Target      *strictPoint `json:"target"`
	CallbackURL *string      `json:"callback_url"`
}

type strictPoint struct {
	Lat *float64 `json:"lat"`
	Lon *float64 `json:"lon"`
}

// FuzzParseParams compares with a strict parser that has the bounds of the
// contract: both accept the same documents and read the same in them.
func FuzzParseParams(f *testing.F) {
	for _, seed := range []string{
		aRide, oakland + `,"callback_url":null}`, oakland + `,"callback_url":"https://example.com/hook?a=b"}`, oakland + `,"Origin":1}`,
		`{"origin":{"lat":90,"lon":180},"target":{"lat":90.00000000000001,"lon":-180}}`, `{"origin":{"lat":"1","lon":1e999},"target":null}`,
		`{"origin":{"lat":-0,"lon":1e-400},"target":{"lat":0,"lon":0,"alt":1}}`, `{}`, `[]`, `null`, oakland + `,"callback_url":"http://a"}`,
	} {
		f.Add([]byte(seed))
	}
	const maxFare = 50_000
	f.Fuzz(func(t *testing.T, doc []byte) {
		canonical, err := web.Canonical(doc)
		if err != nil {
			return
		}
		params, faults, err := parseParams(canonical, maxFare, callbacks.NewGuard())
		if object := canonical[0] == '{'; object != (err == nil) {
			t.Fatalf("%s: error %v", canonical, err)
		}
		if err != nil {
			return
		}
		want, valid := strictly(doc, maxFare)
		if valid != (len(faults) == 0) {
			t.Fatalf("%q is valid %t, but has the faults %v", doc, valid, faults)
		}
		if !valid {
			return
		}
		if diff := cmp.Diff(want, params); diff != "" {
			t.Fatalf("%q (-strict +parsed):\n%s", doc, diff)
		}
		// The stored parameters are read again when the ride is made.
		ride, err := newRide(phases.Key{Account: "acct_1", Key: "k", Params: string(canonical)}, false)
		stored := Params{Origin: ride.Origin, Target: ride.Target, CallbackURL: ride.CallbackURL}
		if diff := cmp.Diff(params, stored); err != nil || diff != "" || ride.Fare.Amount < MinimumFare || ride.Fare.Amount > maxFare {
			t.Fatalf("%s makes the ride %+v, %v:\n%s", canonical, ride, err, diff)
		}
	})
}

func strictly(doc []byte, maxFare int64) (Params, bool) {
	var ride strictRide
	err := json.Unmarshal(doc, &ride, json.RejectUnknownMembers(true))
	if err != nil || ride.Origin == nil || ride.Target == nil || ride.CallbackURL != nil && callbacks.NewGuard().URLFault(*ride.CallbackURL) != "" {
		return Params{}, false
	}
	for _, point := range []struct{ lat, lon *float64 }{{ride.Origin.Lat, ride.Origin.Lon}, {ride.Target.Lat, ride.Target.Lon}} {
		if point.lat == nil || point.lon == nil || !(math.Abs(*point.lat) <= 90 && math.Abs(*point.lon) <= 180) {
			return Params{}, false
		}
	}
	origin, target := Point{*ride.Origin.Lat, *ride.Origin.Lon}, Point{*ride.Target.Lat, *ride.Target.Lon}
	return Params{origin, target, ride.CallbackURL}, Fare(origin, target) <= maxFare
}

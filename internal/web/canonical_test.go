package web

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

func TestCanonicalFollowsRFC8785(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ doc, want string }{
		"the example of section 3.2.2": {
			doc: `{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}`,
			want: `{"literals":[null,true,false],` +
				`"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],` +
				`"string":"€$\u000f\nA'B\"\\\\\"/"}`,
		},
		"the members of section 3.2.3 are sorted by UTF-16": {
			doc: `{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One",` +
				`"\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`,
			want: `{"\r":"Carriage Return","1":"One","` + "\u0080" + `":"Control","ö":"Latin Small Letter O With Diaeresis",` +
				`"€":"Euro Sign","😀":"Emoji: Grinning Face","` + "\ufb33" + `":"Hebrew Letter Dalet With Dagesh"}`,
		},
		"nested objects are sorted, arrays are not": {
			doc:  ` { "b" : [ {"d":1,"c":2} , 3 , 1 ] , "a" : { } } `,
			want: `{"a":{},"b":[{"c":2,"d":1},3,1]}`,
		},
		"the empty name comes first":                {`{"a":1,"":2}`, `{"":2,"a":1}`},
		"escapes that are not needed go":            {`"\u003c\u2028\u007f\/"`, `"<` + "\u2028\u007f" + `/"`},
		"control characters have lower-case digits": {`"\u001F\u0000\b\t\n\f\r"`, `"\u001f\u0000\b\t\n\f\r"`},
		"a document may be a single value":          {" null\n", `null`},
		"a null member stays":                       {`{"a":null}`, `{"a":null}`},
		"a number beyond float64 keeps its text":    {`[1e999,-1E999,1e9999]`, `[1e999,-1E999,1e9999]`},
		"a number too small for float64 is 0":       {`[1e-999,-1e-999]`, `[0,0]`},
		"minus zero is 0":                           {`[-0,-0.0,-0e5]`, `[0,0,0]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := canonical(t, c.doc); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestCanonicalNumbers is the table of RFC 8785, appendix B.
func TestCanonicalNumbers(t *testing.T) {
	t.Parallel()
	for bits, want := range map[uint64]string{
		0x0000000000000000: "0",
		0x8000000000000000: "0",
		0x0000000000000001: "5e-324",
		0x8000000000000001: "-5e-324",
		0x7fefffffffffffff: "1.7976931348623157e+308",
		0xffefffffffffffff: "-1.7976931348623157e+308",
		0x4340000000000000: "9007199254740992",
		0xc340000000000000: "-9007199254740992",
		0x4430000000000000: "295147905179352830000",
		0x44b52d02c7e14af5: "9.999999999999997e+22",
		0x44b52d02c7e14af6: "1e+23",
		0x44b52d02c7e14af7: "1.0000000000000001e+23",
		0x444b1ae4d6e2ef4e: "999999999999999700000",
		0x444b1ae4d6e2ef4f: "999999999999999900000",
		0x444b1ae4d6e2ef50: "1e+21",
		0x3eb0c6f7a0b5ed8c: "9.999999999999997e-7",
		0x3eb0c6f7a0b5ed8d: "0.000001",
		0x41b3de4355555553: "333333333.3333332",
		0x41b3de4355555554: "333333333.33333325",
		0x41b3de4355555555: "333333333.3333333",
		0x41b3de4355555556: "333333333.3333334",
		0x41b3de4355555557: "333333333.33333343",
		0xbecbf647612f3696: "-0.0000033333333333333333",
		0x43143ff3c1cb0959: "1424953923781206.2",
	} {
		for _, format := range []byte{'g', 'e', 'f'} {
			text := strconv.FormatFloat(math.Float64frombits(bits), format, -1, 64)
			if got := canonical(t, text); got != want {
				t.Errorf("%016x as %q: got %s, want %s", bits, text, got, want)
			}
		}
	}
}

func TestCanonicalRefusesWhatIsNotOneDocument(t *testing.T) {
	t.Parallel()
	deep := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	const (
		malformed = "The body is not well-formed JSON"
		short     = "The body ends before its JSON document does"
		more      = "The body goes on after the JSON document"
		twice     = "An object in the body has two members of the same name"
		encoding  = "The body is not valid UTF-8"
		escape    = `A \u escape in the body is malformed or half of a surrogate pair`
		nested    = "The body nests more than 64 deep"
	)
	for name, c := range map[string]struct {
		doc  string
		want JSONError
	}{
		"nothing":                             {"", JSONError{"The body is empty", 0}},
		"blanks only":                         {" \n", JSONError{"The body is empty", 2}},
		"an object that does not end":         {`{"a":1`, JSONError{short, 6}},
		"a string that does not end":          {`"secret`, JSONError{short, 7}},
		"a member named twice":                {`{"a":1,"a":1}`, JSONError{twice, 7}},
		"a member named twice, once escaped":  {`{"a":1,"\u0061":2}`, JSONError{twice, 7}},
		"a member named twice, further in":    {`[{"b":{"a":1,"c":2,"a":3}}]`, JSONError{twice, 19}},
		"a second document":                   {`{} {}`, JSONError{more, 2}},
		"a comma behind the document":         {`{},`, JSONError{more, 2}},
		"a bracket behind the document":       {`[]]`, JSONError{more, 2}},
		"NaN":                                 {`{"a":NaN}`, JSONError{malformed, 5}},
		"Infinity":                            {`[Infinity]`, JSONError{malformed, 1}},
		"-Infinity":                           {`[-Infinity]`, JSONError{malformed, 2}},
		"a number with a leading zero":        {`[01]`, JSONError{malformed, 2}},
		"a hexadecimal number":                {`[0x1]`, JSONError{malformed, 2}},
		"a comma too many":                    {`{"a":1,}`, JSONError{malformed, 6}},
		"a name that is no string":            {`{1:2}`, JSONError{malformed, 1}},
		"a comment":                           {`{} // secret`, JSONError{more, 2}},
		"a line end in a string":              {"\"a\nb\"", JSONError{malformed, 2}},
		"NUL":                                 {"\x00", JSONError{malformed, 0}},
		"a byte order mark":                   {"\ufeff{}", JSONError{malformed, 0}},
		"UTF-16":                              {"\xff\xfe{\x00}\x00", JSONError{encoding, 0}},
		"a stray continuation byte":           {"{\"a\":\"b\x80\"}", JSONError{encoding, 7}},
		"an overlong encoding":                {"\"\xc0\xaf\"", JSONError{encoding, 1}},
		"an encoded surrogate":                {"\"\xed\xa0\x80\"", JSONError{encoding, 1}},
		"a sequence cut short":                {"\"\xe2\x82", JSONError{encoding, 1}},
		"a bad byte behind a good U+FFFD":     {"\"\ufffd\x80\"", JSONError{encoding, 4}},
		"half a surrogate pair":               {`"\ud800"`, JSONError{escape, 1}},
		"the other half":                      {`"a\udc00"`, JSONError{escape, 2}},
		"two first halves":                    {`"\ud800\ud800"`, JSONError{escape, 1}},
		"half a surrogate pair in a name":     {`{"\udead":1}`, JSONError{escape, 2}},
		"an escape with letters beyond F":     {`"\u00zz"`, JSONError{escape, 1}},
		"an escape that JSON does not have":   {`"\x41"`, JSONError{malformed, 1}},
		"nesting one beyond the limit":        {deep(65), JSONError{nested, 65}},
		"nesting far beyond the limit":        {strings.Repeat("[", 1<<20), JSONError{nested, 65}},
		"objects nested far beyond the limit": {strings.Repeat(`{"a":`, 1<<16), JSONError{nested, 321}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Canonical([]byte(c.doc))
			refusal, ok := errors.AsType[*JSONError](err)
			if !ok {
				t.Fatalf("got %.80s and error %v, want a *JSONError", got, err)
			}
			if diff := cmp.Diff(c.want, *refusal); diff != "" {
				t.Errorf("refusal (-want +got):\n%s", diff)
			}
		})
	}
	if got := canonical(t, deep(64)); got != deep(64) {
		t.Errorf("nesting at the limit: got %s", got)
	}
}

func TestRequestHashTellsRequestsApart(t *testing.T) {
	t.Parallel()
	type request struct {
		method, route string
		ids           []string
		body          string
	}
	requests := []request{
		{"POST", "/v1/rides", nil, `{}`},
		{"PUT", "/v1/rides", nil, `{}`},
		{"POST", "/v1/ride", nil, `s{}`},
		{"POST", "/v1/rides", nil, ``},
		{"POST", "/v1/rides", []string{""}, `{}`},
		{"POST", "/v1/rides", []string{"{}"}, ``},
		{"POST", "/v1/rides", []string{"a", "b"}, `{}`},
		{"POST", "/v1/rides", []string{"b", "a"}, `{}`},
		{"POST", "/v1/rides", []string{"ab"}, `{}`},
		{"POST", "/v1/rides", []string{"a"}, `b{}`},
	}
	seen := map[[32]byte]request{}
	for _, r := range requests {
		hash := requestHash(r.method, r.route, r.ids, []byte(r.body))
		if other, ok := seen[hash]; ok {
			t.Errorf("%v and %v have one hash", r, other)
		}
		seen[hash] = r
		if again := requestHash(r.method, r.route, r.ids, []byte(r.body)); again != hash {
			t.Errorf("%v has two hashes", r)
		}
	}
}

// TestRequestHashIsStable pins one hash: stored keys are compared with it, so a
// change needs a new CanonVersion.
func TestRequestHashIsStable(t *testing.T) {
	t.Parallel()
	doc := `{"target":{"lon":-122.2712,"lat":37.8044},"origin":{"lat":37.7749,"lon":-122.4194}}`
	hash := requestHash("POST", "/v1/rides", nil, []byte(canonical(t, doc)))
	const want = "2e1fed52aa036e91070412444dbae688727cdcebbb9bd05800a1cf77dc7289ca"
	if got := hex.EncodeToString(hash[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzCanonical compares with the canonical form of package jsontext, which
// differs only for numbers that overflow.
func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{
		``, `null`, `{"b":1.0,"a":[1e0,-0,"\u0041\ud83d\ude00"]}`, `{"a":{"a":{"":"\u0000"}}}`, `[1e999,1e-999]`,
		`{"a":1,"a":2}`, `"\ud800"`, "\"\x80\"", `{} {}`, `[[[[`, `NaN`, `[1,2,]`, `123456789012345678901234567890`,
		"{\"\ufb33\":1,\"\U0001f600\":2}", strings.Repeat("[", 70), ` { "lat" : 37.7749 } `, `"\u`, `-`, `1e`, `{"a"`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		before := bytes.Clone(doc)
		got, err := Canonical(doc)
		if !bytes.Equal(doc, before) {
			t.Fatal("the argument was changed")
		}
		reference := jsontext.Value(bytes.Clone(doc))
		referenceErr := reference.Canonicalize()
		if err != nil {
			refusal, ok := errors.AsType[*JSONError](err)
			if !ok || refusal.Offset < 0 || refusal.Offset > int64(len(doc)) {
				t.Fatalf("%q: error %#v", doc, err)
			}
			if referenceErr == nil && !strings.Contains(refusal.Reason, "deep") {
				t.Fatalf("%q refused (%v), but the reference accepts it", doc, err)
			}
			return
		}
		if referenceErr != nil {
			t.Fatalf("%q accepted as %s, but the reference says %v", doc, got, referenceErr)
		}
		if again, err := Canonical(got); err != nil || !bytes.Equal(got, again) {
			t.Fatalf("%q: %s becomes %s, error %v", doc, got, again, err)
		}
		if !overflows(t, got) && !bytes.Equal(got, reference) {
			t.Fatalf("%q: got %s, reference %s", doc, got, reference)
		}
	})
}

func overflows(t *testing.T, doc []byte) bool {
	t.Helper()
	dec := jsontext.NewDecoder(bytes.NewReader(doc))
	for {
		token, err := dec.ReadToken()
		if err != nil {
			return false
		}
		if token.Kind() != jsontext.KindNumber {
			continue
		}
		if _, err := token.Float(); err != nil {
			return true
		}
	}
}

func canonical(t interface {
	Helper()
	Fatalf(format string, args ...any)
}, doc string,
) string {
	t.Helper()
	got, err := Canonical([]byte(doc))
	if err != nil {
		t.Fatalf("Canonical(%s): %v", doc, err)
	}
	if !json.Valid(got) {
		t.Fatalf("Canonical(%s) = %s, which is not JSON", doc, got)
	}
	return string(got)
}

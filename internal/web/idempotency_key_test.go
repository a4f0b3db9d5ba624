package web

import (
	"bufio"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/dunglas/httpsfv"
)

func TestParseIdempotencyKeyTakesBothForms(t *testing.T) {
	t.Parallel()
	const uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324"
	for name, c := range map[string]struct{ value, want string }{
		"a bare UUID":                        {uuid, uuid},
		"a quoted UUID":                      {`"` + uuid + `"`, uuid},
		"one character":                      {"k", "k"},
		"every bare character at the edges":  {"!#$%&'()*+-./09:;<=>?@AZ[]^_`az{|}~", "!#$%&'()*+-./09:;<=>?@AZ[]^_`az{|}~"},
		"a bare key that looks like a token": {"*a;b=c", "*a;b=c"},
		"a bare key that looks like bytes":   {":YWJj:", ":YWJj:"},
		"a number":                           {"42", "42"},
		"a word for nothing in another case": {"Null", "Null"},
		"a word for nothing and more":        {"null-1", "null-1"},
		"the longest bare key":               {strings.Repeat("k", 255), strings.Repeat("k", 255)},
		"the longest quoted key":             {`"` + strings.Repeat("k", 255) + `"`, strings.Repeat("k", 255)},
		"255 characters, each escaped":       {`"` + strings.Repeat(`\"`, 255) + `"`, strings.Repeat(`"`, 255)},
		"a quoted key with blanks":           {`" a b "`, " a b "},
		"a quoted comma":                     {`"a,b"`, "a,b"},
		"quoted escapes":                     {`"a\"b\\c"`, `a"b\c`},
		"a quote within a quoted key":        {`"\"abc\""`, `"abc"`},
		"a quoted semicolon":                 {`"a;b"`, "a;b"},
		"blanks around a bare key":           {" \tk\t ", "k"},
		"blanks around a quoted key":         {"\t \"k\" ", "k"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseIdempotencyKey(headerWithKey(c.value))
			if err != nil || got != c.want {
				t.Errorf("%s: got %q, error %v, want %q", c.value, got, err, c.want)
			}
		})
	}
}

func TestParseIdempotencyKeyRefusesOtherForms(t *testing.T) {
	t.Parallel()
	const (
		empty   = "The key is empty"
		long    = "The key has more than 255 characters"
		bare    = "A key that is not quoted may hold only visible ASCII characters, and no quotation mark, comma or backslash"
		quoted  = "The value starts with a quotation mark but is not a String of RFC 9651"
		params  = "The key has parameters"
		doubled = "The header was sent more than once"
	)
	nothing := func(word string) string {
		return "The key is " + word + ", which a client sends by mistake when its variable holds no key"
	}
	for name, c := range map[string]struct {
		values []string
		want   string
	}{
		"an empty value":                       {[]string{""}, empty},
		"blanks only":                          {[]string{" \t "}, empty},
		"an empty String":                      {[]string{`""`}, empty},
		"256 characters, bare":                 {[]string{strings.Repeat("k", 256)}, long},
		"256 characters, quoted":               {[]string{`"` + strings.Repeat("k", 256) + `"`}, long},
		"a megabyte":                           {[]string{strings.Repeat("k", 1<<20)}, long},
		"two lines":                            {[]string{"a", "b"}, doubled},
		"two equal lines":                      {[]string{"a", "a"}, doubled},
		"two lines, one of them empty":         {[]string{"", "a"}, doubled},
		"two lines joined by a proxy, bare":    {[]string{"a, a"}, bare},
		"two lines joined by a proxy, quoted":  {[]string{`"a", "a"`}, quoted},
		"a comma in a bare key":                {[]string{"a,b"}, bare},
		"a blank in a bare key":                {[]string{"a b"}, bare},
		"a quotation mark in a bare key":       {[]string{`a"b`}, bare},
		"a quotation mark at the end":          {[]string{`a"`}, bare},
		"a backslash in a bare key":            {[]string{`a\b`}, bare},
		"a control character":                  {[]string{"a\x01b"}, bare},
		"a line end":                           {[]string{"a\r\nX-Evil: 1"}, bare},
		"a line end behind the key":            {[]string{"a\n"}, bare},
		"NUL":                                  {[]string{"\x00"}, bare},
		"DEL":                                  {[]string{"a\x7f"}, bare},
		"UTF-8":                                {[]string{"schlüssel"}, bare},
		"bytes that are not UTF-8":             {[]string{"a\xff"}, bare},
		"a quote that is not closed":           {[]string{`"abc`}, quoted},
		"a quote only":                         {[]string{`"`}, quoted},
		"a quote closed by an escape":          {[]string{`"abc\"`}, quoted},
		"something behind the closing quote":   {[]string{`"abc"d`}, quoted},
		"an escape that Strings do not have":   {[]string{`"a\nb"`}, quoted},
		"a control character in quotes":        {[]string{"\"a\tb\""}, quoted},
		"DEL in quotes":                        {[]string{"\"a\x7f\""}, quoted},
		"UTF-8 in quotes":                      {[]string{`"schlüssel"`}, quoted},
		"a parameter":                          {[]string{`"abc";a=1`}, params},
		"null":                                 {[]string{`null`}, nothing("null")},
		"quoted null":                          {[]string{`"null"`}, nothing("null")},
		"undefined":                            {[]string{` undefined `}, nothing("undefined")},
		"NaN":                                  {[]string{`NaN`}, nothing("NaN")},
		"None":                                 {[]string{`None`}, nothing("None")},
		"an object":                            {[]string{`[object Object]`}, nothing("[object Object]")},
		"a quoted object":                      {[]string{`"[object Object]"`}, nothing("[object Object]")},
		"a parameter without a value":          {[]string{`"abc"; a`}, params},
		"a semicolon without a parameter":      {[]string{`"abc";`}, quoted},
		"a list of Strings within parentheses": {[]string{`("abc")`}, bare},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseIdempotencyKey(headerWithKey(c.values...))
			refusal, ok := errors.AsType[*keyError](err)
			if !ok || refusal.reason != c.want || got != "" {
				t.Errorf("got %q, error %v, want reason %q", got, err, c.want)
			}
		})
	}
}

func TestParseIdempotencyKeyNeedsTheHeader(t *testing.T) {
	t.Parallel()
	if key, err := ParseIdempotencyKey(http.Header{"Idempotency": {"k"}}); !errors.Is(err, errKeyMissing) || key != "" {
		t.Errorf("got %q, error %v", key, err)
	}
}

// TestParseIdempotencyKeyOffTheWire reads the header as net/http does, which
// names and trims it in its own way.
func TestParseIdempotencyKeyOffTheWire(t *testing.T) {
	t.Parallel()
	const text = "POST /v1/rides HTTP/1.1\r\nHost: a\r\nidempotency-KEY: \t \"k-1\" \t\r\n\r\n"
	request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := ParseIdempotencyKey(request.Header); err != nil || key != "k-1" {
		t.Errorf("got %q, error %v", key, err)
	}
}

func FuzzParseIdempotencyKey(f *testing.F) {
	for _, seed := range []string{
		"", "k", `"k"`, `"a\"b\\"`, `"k";a=1`, `"k`, "a,b", "a b", "\x00", "ü", `""`, strings.Repeat("k", 256), `"a", "b"`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		key, err := ParseIdempotencyKey(headerWithKey(value))
		if err != nil {
			if _, ok := errors.AsType[*keyError](err); !ok || key != "" {
				t.Fatalf("%q: key %q, error %v", value, key, err)
			}
			return
		}
		if key == "" || len(key) > 255 || strings.ContainsFunc(key, func(c rune) bool { return c < 0x20 || c > 0x7e }) {
			t.Fatalf("%q: key %q", value, key)
		}
		quoted, err := httpsfv.Marshal(httpsfv.NewItem(key))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseIdempotencyKey(headerWithKey(quoted)); err != nil || again != key {
			t.Fatalf("%q means %q, but %s means %q (%v)", value, key, quoted, again, err)
		}
		if notKeys := []string{"null", "undefined", "NaN", "None", "[object Object]"}; slices.Contains(notKeys, key) {
			t.Fatalf("%q is accepted as a key", value)
		}
		if bare := !strings.ContainsAny(key, `",\ `); bare {
			if again, err := ParseIdempotencyKey(headerWithKey(key)); err != nil || again != key {
				t.Fatalf("%q means %q, which bare means %q (%v)", value, key, again, err)
			}
		}
	})
}

func headerWithKey(values ...string) http.Header {
	return http.Header{"Idempotency-Key": values}
}

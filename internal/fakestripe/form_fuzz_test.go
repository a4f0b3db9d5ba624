package fakestripe

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// FuzzForm checks that a form is decoded to what net/url reads. The canonical
// form, by which two sends under one key are compared, must decode to the same
// fields, and must not depend on the order of the names.
func FuzzForm(f *testing.F) {
	for _, seed := range []string{
		"", hail("r"), "a=1&a=2&b=3", "a", "a=", "=1", "&", "a=b=c", "a+b=%2B+%20", "a=%zz", "a=%ff", "a=%00", "a=1;b=2", "metadata[a]=1&metadata%5Ba%5D=2",
		"payment_method_types[0]=card&payment_method_types[]=card", "expand[]=latest_charge&expand[1]=x", "ü=ü", "[=1&]=2&[]=3", strings.Repeat("a=1&", maxFields) + "a=1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		fields, refused := decode(raw)
		want, err := url.ParseQuery(raw)
		if refused != nil {
			if odd := err != nil || refusable(raw, want); !odd {
				t.Fatalf("%q is refused: %s", raw, refused.Message)
			}
			return
		}
		got := url.Values{}
		for _, field := range fields {
			got.Add(field.name, field.value)
		}
		if err == nil { // net/url takes no semicolon
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%q (-net/url +decoded):\n%s", raw, diff)
			}
		}
		checkCanonical(t, fields)
		for _, route := range routes() {
			form, err := readForm(fields, route.accepts)
			if err == nil {
				checkNothingLost(t, form, fields)
			}
		}
	})
}

// refusable reports whether a form has something that net/url accepts and the
// fake refuses, or too many fields.
func refusable(raw string, values url.Values) bool {
	if strings.Contains("&"+raw+"&", "&&") || strings.Count(raw, "&") >= maxFields {
		return true
	}
	for name, all := range values {
		if text := name + strings.Join(all, ""); name == "" || !utf8.ValidString(text) || strings.Contains(text, "\x00") {
			return true
		}
	}
	return false
}

func checkCanonical(t *testing.T, fields []field) {
	t.Helper()
	form := canonical(fields)
	again, refused := decode(form)
	if refused != nil || canonical(again) != form {
		t.Fatalf("%v is %q, and that is %v (%v)", fields, form, again, refused)
	}
	// Equal names keep their order, so only the order of the names may change.
	byName := slices.Clone(fields)
	slices.SortStableFunc(byName, func(a, b field) int { return strings.Compare(b.name, a.name) })
	if other := canonical(byName); other != form {
		t.Fatalf("%v is %q, in another order %q", fields, form, other)
	}
}

// checkNothingLost checks that a form that a route accepts keeps every field.
// If a field were dropped, another amount could be charged than was asked for.
func checkNothingLost(t *testing.T, f *form, fields []field) {
	t.Helper()
	kept := len(f.scalars)
	for _, items := range f.lists {
		kept += len(items)
	}
	for _, in := range fields {
		base, _, _ := strings.Cut(in.name, "[")
		if base != "metadata" {
			kept--
			continue
		}
		name := strings.TrimSuffix(strings.TrimPrefix(in.name, "metadata["), "]")
		if in.value != "" && f.hash[name] != in.value {
			t.Fatalf("%v became %v", fields, f.hash)
		}
	}
	if kept != 0 {
		t.Fatalf("%v became %d fields more", fields, kept)
	}
}

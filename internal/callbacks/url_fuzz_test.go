package callbacks

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzCallbackURL: to every URL that is accepted a callback can be sent. If it
// could not, nobody would notice before the ride was paid.
func FuzzCallbackURL(f *testing.F) {
	for _, seed := range []string{
		"https://example.com/hook", "HTTPS://EXAMPLE.com", "https://example.com:8443/a%20b?c=d&e", "https://[2001:db8::1]:443/", "https://bücher.example/ü?ü=ü",
		"http://example.com", "https://user:secret@example.com", "https://@example.com", "https://example.com#", "https:///hook", "https:example.com", "//example.com",
		"https://example.com/a b", "https://example.com/?a b", "https://example.com:/", "https://example.com:0/", "https://example.com:65536/", "https://:443",
		"https://exa mple.com", "https://a\"b/", "https://a<b>/", "https://[fe80::1%25eth0]/", "https://%41/", "https://a\x00/", "https://\u00ad/", "https://a..b/",
		"https://" + strings.Repeat("a", 2040), "https://a/" + strings.Repeat("ü", 2038), "https://a/" + strings.Repeat("ü", 2039), "https://a?#b", "https://a/\u2028",
		"https://xn--a/", "https://a_b/", "https://a,b/", "https://1.2.3.4/", "https://0x7f.1/", "https://a\\b/", "https://[::1", "https://a/%zz", "https://a;b/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || NewGuard().URLFault(text) != "" {
			return // web.Canonical accepts no invalid UTF-8
		}
		if utf8.RuneCountInString(text) > 2048 || strings.Contains(text, "#") || strings.ContainsFunc(text, unicode.IsControl) {
			t.Fatalf("%q is accepted", text)
		}
		if err := callable(t, text); err != nil {
			t.Fatalf("%q is accepted, but no callback can be sent to it: %v", text, err)
		}
	})
}

// callable sends a callback into a buffer, and reads it as the receiver would.
func callable(t *testing.T, text string) error {
	t.Helper()
	sent, err := http.NewRequestWithContext(t.Context(), http.MethodPost, text, strings.NewReader("{}"))
	if err != nil {
		return err
	}
	if sent.URL.Scheme != "https" || sent.URL.Hostname() == "" || sent.URL.User != nil || sent.URL.Fragment != "" {
		return fmt.Errorf("it is %#v", sent.URL)
	}
	if port := sent.URL.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return errors.New("no TCP port has this number")
		}
	}
	var wire bytes.Buffer
	if err := sent.Write(&wire); err != nil {
		return err
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(got.Body)
	if err != nil || string(body) != "{}" || got.Host == "" || got.RequestURI != sent.URL.RequestURI() {
		return fmt.Errorf("it arrives as %q %q %q, %w", got.Host, got.RequestURI, body, err)
	}
	return nil
}

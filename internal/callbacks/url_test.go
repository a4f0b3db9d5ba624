package callbacks

import (
	"strings"
	"testing"
)

const (
	noHTTPS    = "Must be an absolute https URL with a host."
	noUserinfo = "Must not contain a user name or password."
	noFragment = "Must not contain a fragment."
	noControls = "Must not contain control characters."
	noBlanks   = "Must not contain blanks."
	noWay      = "Must name a host and a port that a request can be sent to."
	tooLong    = "Must have at most 2,048 characters."
)

func TestURLFaultNamesTheFault(t *testing.T) {
	t.Parallel()
	long := "https://example.com/" + strings.Repeat("é", 2048-len("https://example.com/"))
	for url, want := range map[string]string{
		"https://example.com":                  "",
		"HTTPS://example.com:8443/a?b=c&d=%20": "",
		"https://[2001:db8::1]/hook":           "",
		"https://münchen.example/":             "",
		long:                                   "",
		long + "x":                             tooLong,
		"":                                     noHTTPS,
		"http://example.com":                   noHTTPS,
		"ftp://example.com":                    noHTTPS,
		"file:///etc/passwd":                   noHTTPS,
		"//example.com/hook":                   noHTTPS,
		"/hook":                                noHTTPS,
		"example.com":                          noHTTPS,
		"https:":                               noHTTPS,
		"https:///hook":                        noHTTPS,
		"https://:443/hook":                    noHTTPS,
		"https:example.com":                    noHTTPS,
		" https://example.com":                 noHTTPS,
		"https://exa mple.com":                 noHTTPS,
		"https://example.com:port/":            noHTTPS,
		"https://example.com/%zz":              noHTTPS,
		"https://[fe80::1/":                    noHTTPS,
		"https://good.example\\@evil.example":  noHTTPS,
		"https://user@example.com":             noUserinfo,
		"https://user:word@example.com":        noUserinfo,
		"https://@example.com":                 noUserinfo,
		"https://example.com/#part":            noFragment,
		"https://example.com/#":                noFragment,
		"https://example.com/?a b":             noBlanks,
		"https://example.com/a\u2003b":         noBlanks,
		"https://example.com./":                "",
		"https://a_b.example/":                 "",
		"https://xn--mnchen-3ya.example/":      "",
		"https://localhost:8443/":              "",
		"https://93.184.216.34/":               "",
		"https://3com.example/":                "",
		"https://a--b.example/":                "",
		"https://" + strings.Repeat("a", 63) + ".example/":      "",
		"https://" + strings.Repeat("a", 64) + ".example/":      noWay,
		"https://" + strings.Repeat("ü", 63) + ".example/":      noWay,
		"https://" + strings.Repeat("abcdefg.", 31) + "abcde/":  "",
		"https://" + strings.Repeat("abcdefg.", 31) + "abcdef/": noWay,
		"https://0x/":                       noWay,
		"https://0x100000000000000000/":     noWay,
		"https://0xyz/":                     "",
		"https://./":                        noWay,
		"https://../":                       noWay,
		"https://-/":                        noWay,
		"https://-a.example/":               noWay,
		"https://a-.example/":               noWay,
		"https://a..example/":               noWay,
		"https://.example/":                 noWay,
		"https://example.com../":            noWay,
		"https://1/":                        noWay,
		"https://123456789/":                noWay,
		"https://1.2.3/":                    noWay,
		"https://1.2.3.4.5/":                noWay,
		"https://256.1.1.1/":                noWay,
		"https://0x7f.1/":                   noWay,
		"https://a.0x7F/":                   noWay,
		"https://99999999999999999999/":     noWay,
		"https://[fe80::1%25eth0]/":         noWay,
		"https://a:b@c/":                    noUserinfo,
		"https://example.com:0/":            noWay,
		"https://example.com:65536/":        noWay,
		"https://a\"b/":                     noWay,
		"https://<a>/":                      noWay,
		"https://example.com/\u0000":        noControls,
		"https://example.com/\r\nX-Evil: 1": noControls,
		"https://example.com/\u0085":        noControls,
		"https://example.com/\u007f":        noControls,
	} {
		if got := URLFault(url); got != want {
			t.Errorf("%q: %q, want %q", url, got, want)
		}
	}
}

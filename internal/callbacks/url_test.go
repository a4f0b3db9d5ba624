package callbacks

import (
	"net/netip"
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
	noPrivate  = "Must not name an address in a private or special network."
	noPort     = "Must use port 443, or one from 1024 on."
	tooLong    = "Must have at most 2,048 characters."
)

func TestURLFaultNamesTheFault(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://example.com":                  "",
		"HTTPS://example.com:8443/a?b=c&d=%20": "",
		"https://[2001:db8::1]/hook":           noPrivate,
		"https://[2606:4700::1111]/hook":       "",
		"https://example.com:1024/":            "",
		"https://example.com:65535/":           "",
		"https://example.com:443/":             "",
		"https://example.com:1023/":            noPort,
		"https://93.184.216.34:22/":            noPort,
		"https://receiver.test:22/":            noPort,
		"http://receiver.test/":                noHTTPS,
		"https://münchen.example/":             "",
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
		"https://localhost:8443/":              noPrivate,
		"https://93.184.216.34/":               "",
		"https://3com.example/":                "",
		"https://a--b.example/":                "",
		"https://0x/":                          noWay,
		"https://0x100000000000000000/":        noWay,
		"https://0xyz/":                        "",
		"https://./":                           noWay,
		"https://../":                          noWay,
		"https://-/":                           noWay,
		"https://-a.example/":                  noWay,
		"https://a-.example/":                  noWay,
		"https://a..example/":                  noWay,
		"https://.example/":                    noWay,
		"https://example.com../":               noWay,
		"https://1/":                           noWay,
		"https://123456789/":                   noWay,
		"https://1.2.3/":                       noWay,
		"https://1.2.3.4.5/":                   noWay,
		"https://256.1.1.1/":                   noWay,
		"https://0x7f.1/":                      noWay,
		"https://a.0x7F/":                      noWay,
		"https://99999999999999999999/":        noWay,
		"https://[fe80::1%25eth0]/":            noWay,
		"https://a:b@c/":                       noUserinfo,
		"https://example.com:0/":               noWay,
		"https://example.com:65536/":           noWay,
		"https://a\"b/":                        noWay,
		"https://<a>/":                         noWay,
		"https://example.com/\u0000":           noControls,
		"https://example.com/\r\nX-Evil: 1":    noControls,
		"https://example.com/\u0085":           noControls,
		"https://example.com/\u007f":           noControls,
	} {
		checkURLFault(t, NewGuard(), url, want)
	}
}

func TestURLFaultNamesWhatIsTooLong(t *testing.T) {
	t.Parallel()
	long := "https://example.com/" + strings.Repeat("é", 2048-len("https://example.com/"))
	label := strings.Repeat("abcdefg.", 31)
	for _, test := range []struct{ url, want string }{
		{long, ""},
		{long + "x", tooLong},
		{"https://" + strings.Repeat("a", 63) + ".example/", ""},
		{"https://" + strings.Repeat("a", 64) + ".example/", noWay},
		{"https://" + strings.Repeat("ü", 63) + ".example/", noWay},
		{"https://" + label + "abcde/", ""},
		{"https://" + label + "abcdef/", noWay},
	} {
		checkURLFault(t, NewGuard(), test.url, test.want)
	}
}

func checkURLFault(t *testing.T, guard *Guard, url, want string) {
	t.Helper()
	if got := guard.URLFault(url); got != want {
		t.Errorf("%q: %q, want %q", url, got, want)
	}
}

// What the operator allows, for development, may have any port and no TLS, and
// so may names that can lead nowhere else. All else stays refused.
func TestURLFaultLeavesOutWhatIsAllowed(t *testing.T) {
	t.Parallel()
	guard := NewGuard(netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd00::/8"))
	for url, want := range map[string]string{
		"http://127.0.0.1:80/":          "",
		"http://127.0.0.1:39211/":       "",
		"https://127.1.2.3:1/":          "",
		"http://[::ffff:127.0.0.1]/":    "",
		"http://localhost:8000/":        "",
		"http://[fd00::1]:8000/":        "",
		"http://receiver:8000/":         "", // its address is looked at when it is dialled
		"http://RECEIVER.:80/":          "",
		"https://receiver:22/":          "",
		"http://receiver.localhost:80/": "",
		"http://receiver.test/":         "",
		"http://printer.local:631/":     "",
		"http://a.b.home.arpa/":         "",
		"http://a.Internal./":           "",
		"http://a。ｌｏｃａｌ/":               "",
		"http://example.com/":           noHTTPS,
		"http://example.com:8000/":      noHTTPS,
		"http://local.example.com/":     noHTTPS,
		"http://nottest.latest/":        noHTTPS,
		"http://mylocal.xlocal/":        noHTTPS,
		"http://a.arpa/":                noHTTPS,
		"https://example.com:22/":       noPort,
		"https://example.com/":          "",
		"https://example.com:8443/":     "",
		"https://93.184.216.34/":        "",
		"http://93.184.216.34/":         noHTTPS,
		"http://10.0.0.1/":              noHTTPS,
		"http://[::1]/":                 noHTTPS,
		"https://10.0.0.1/":             noPrivate,
		"https://[::1]/":                noPrivate,
		"https://93.184.216.34:22/":     noPort,
		"ftp://127.0.0.1/":              noHTTPS,
		"http://user@127.0.0.1/":        noUserinfo,
		"http://169.254.169.254/latest": noHTTPS,
	} {
		checkURLFault(t, guard, url, want)
	}
}

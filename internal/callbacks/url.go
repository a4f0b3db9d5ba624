package callbacks

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxURL is how many characters a callback's URL may have.
const maxURL = 2048

// URLFault returns what is wrong with a callback's URL as a sentence, or "". An
// address in it is refused here; what a name leads to is found out at each
// call, on the address that is dialled.
func (g *Guard) URLFault(text string) string {
	if utf8.RuneCountInString(text) > maxURL {
		return "Must have at most 2,048 characters."
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "Must not contain control characters."
	}
	target, err := url.Parse(text)
	switch {
	case err != nil || !g.isWeb(target) || target.Hostname() == "":
		return "Must be an absolute https URL with a host."
	case !reachable(target):
		return "Must name a host and a port that a request can be sent to."
	case target.User != nil:
		return "Must not contain a user name or password."
	case strings.ContainsFunc(text, unicode.IsSpace): // url.Parse leaves one in a query, where it breaks the request line.
		return "Must not contain blanks."
	case strings.Contains(text, "#"): // url.Parse drops an empty fragment.
		return "Must not contain a fragment."
	}
	return g.addressFault(target)
}

// isWeb reports whether a URL has a scheme that may be called. Plain http is
// for development; see mayBeAllowed.
func (g *Guard) isWeb(target *url.URL) bool {
	return target.Scheme == "https" || target.Scheme == "http" && len(g.allowed) > 0
}

// addressFault is URLFault for the host and port of a URL that is reachable.
func (g *Guard) addressFault(target *url.URL) string {
	port, _ := strconv.ParseUint(cmp.Or(target.Port(), "443"), 10, 16) // it is a number: reachable has said so
	address, isLiteral := literal(target.Hostname())
	switch {
	case g.mayBeAllowed(target.Hostname()):
		return ""
	case target.Scheme != "https":
		return "Must be an absolute https URL with a host."
	case isLiteral && g.public.SafeAddr(address) != nil:
		return "Must not name an address in a private or special network."
	case !isOpenPort(uint16(port)):
		return "Must use port 443, or one from 1024 on."
	}
	return ""
}

// mayBeAllowed reports whether a host is an address that the operator allows, or
// a name that may lead to one, so that any port and plain http are good enough.
// A name that the public DNS has may lead there too, but most do not: its ride
// would be hailed, and its callback refused when the ride is paid.
func (g *Guard) mayBeAllowed(host string) bool {
	if address, isLiteral := literal(host); isLiteral {
		return g.allows(address)
	}
	return len(g.allowed) > 0 && isPrivate(host)
}

// isPrivate reports whether the public DNS never has a name: it is one label,
// as those of containers are, or in a domain that is reserved for tests (.test,
// RFC 6761), for a network's own names (.local, RFC 6762; .home.arpa, RFC 8375)
// or for private use (.internal, by ICANN's resolution of 29 July 2024).
func isPrivate(host string) bool {
	name, err := toASCII(host)
	if err != nil {
		return false
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return !strings.Contains(name, ".") ||
		slices.ContainsFunc([]string{".test", ".local", ".home.arpa", ".internal"}, func(domain string) bool {
			return strings.HasSuffix(name, domain)
		})
}

// reachable reports whether a request can be sent to the host and port of a
// URL. url.Parse accepts nearly any character in a host and any number as a
// port, and net/http would then send no Host, or no request.
func reachable(target *url.URL) bool {
	if port := target.Port(); port != "" {
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
			return false
		}
	}
	if address, err := netip.ParseAddr(target.Hostname()); err == nil {
		return address.Zone() == "" // a zone is a network card of the client's
	}
	return isDomain(target.Hostname())
}

// maxDomain and maxLabel are how many characters a name in the DNS and one of
// its labels may have (RFC 1035, section 2.3.4).
const (
	maxDomain = 253
	maxLabel  = 63
)

// isDomain reports whether a host can be a name in the DNS. Underscores are
// taken, because names with them are in use.
func isDomain(host string) bool {
	host, err := toASCII(host)
	if err != nil {
		return false
	}
	host = strings.TrimSuffix(host, ".") // the root, which may be left out
	if len(host) > maxDomain {
		return false
	}
	var label string
	for label = range strings.SplitSeq(host, ".") {
		odd := func(r rune) bool { return !strings.ContainsRune(domainCharacters, r) }
		if label == "" || len(label) > maxLabel || strings.Trim(label, "-") != label || strings.ContainsFunc(label, odd) {
			return false
		}
	}
	// No top-level domain is a number. Resolvers read such a host as an IPv4
	// address in one of its forgotten spellings, such as 0x7f.1.
	hex, isHex := strings.CutPrefix(strings.ToLower(label), "0x")
	return strings.Trim(label, "0123456789") != "" && (!isHex || strings.Trim(hex, "0123456789abcdef") != "")
}

// toASCII returns a host as it is looked up. Many letters that aren't ASCII
// stand for some that are.
func toASCII(host string) (string, error) {
	if strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return idna.Lookup.ToASCII(host)
	}
	return host, nil
}

const domainCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

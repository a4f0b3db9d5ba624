package callbacks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// corpus returns where no callback may go, one URL each. port stands in it for
// that of a server on loopback.
func corpus(t *testing.T, port string) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/ssrf.txt")
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" && line[0] != '#' {
			urls = append(urls, strings.ReplaceAll(line, "PORT", port))
		}
	}
	if len(urls) < 300 {
		t.Fatalf("the corpus has only %d URLs", len(urls))
	}
	return urls
}

// Nothing in the corpus is accepted when a ride is hailed, and nothing is sent
// there if it was accepted once (I25).
func TestCorpusIsRefused(t *testing.T) {
	t.Parallel()
	victim := newVictim(t)
	guard := NewGuard()
	sender := NewSender(guard)
	for _, url := range corpus(t, victim.port) {
		if guard.URLFault(url) == "" {
			t.Errorf("%q is accepted", url)
		}
		_, err := sender.Send(t.Context(), message(url))
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v, want a refusal", url, err)
		}
	}
	victim.checkUntouched(t)
}

// The addresses of the corpus are refused as well when they are dialled, as
// they are and as what a name leads to. That is what protects from names.
func TestGuardRefusesAddressesWhenTheyAreDialled(t *testing.T) {
	t.Parallel()
	victim := newVictim(t)
	var addresses []netip.Addr
	answers := make(map[string][][]netip.Addr)
	for _, url := range corpus(t, victim.port) {
		host, port, err := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(url, "https://"), "/hook"))
		if err != nil || port != victim.port {
			continue
		}
		if address, err := netip.ParseAddr(host); err == nil {
			answers[nameOf(len(addresses))] = [][]netip.Addr{{address}}
			addresses = append(addresses, address)
		}
	}
	if len(addresses) < 150 {
		t.Fatalf("only %d addresses are in the corpus", len(addresses))
	}
	dns := newDNS(t, answers)
	for i, address := range addresses {
		for _, secure := range []bool{true, false} {
			d := dialer{guard: NewGuard(), secure: secure, timeout: theLimits.dial, resolver: dns.resolver()}
			for _, host := range []string{address.String(), nameOf(i)} {
				conn, err := d.dial(t.Context(), "tcp", net.JoinHostPort(host, victim.port))
				if conn != nil {
					_ = conn.Close()
				}
				if !errors.Is(err, ErrRefused) {
					t.Errorf("%s as %s: %v, want a refusal", address, host, err)
				}
			}
		}
	}
	victim.checkUntouched(t)
}

func nameOf(i int) string { return fmt.Sprintf("host-%d.example", i) }

// A name that leads to a public address when it is looked at, and to loopback
// when it is called, is refused; so is one that leads to both, if the public
// one doesn't answer.
func TestRebindingIsRefused(t *testing.T) {
	t.Parallel()
	victim := newVictim(t)
	// Nobody listens at 127.0.0.2. For this test it stands for a public
	// address.
	public, loopback := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")
	guard := NewGuard(netip.PrefixFrom(public, 32))
	dns := newDNS(t, map[string][][]netip.Addr{
		"both.example":   {{public, loopback}},
		"sixth.example":  {{public, netip.IPv6Loopback()}},
		"rebind.example": {{public}, {loopback}},
	})
	for _, name := range []string{"both.example", "sixth.example", "rebind.example"} {
		d := dialer{guard: guard, secure: true, timeout: shortLimits().dial, resolver: dns.resolver()}
		ctx, cancel := context.WithTimeout(t.Context(), theLimits.total)
		defer cancel()
		conn, err := d.dial(ctx, "tcp", net.JoinHostPort(name, victim.port))
		if err == nil {
			_ = conn.Close()
			t.Fatal("somebody listens at 127.0.0.2")
		}
		if name == "rebind.example" {
			if errors.Is(err, ErrRefused) {
				t.Errorf("%s is refused at first: %v", name, err)
			}
			_, err = d.dial(ctx, "tcp", net.JoinHostPort(name, victim.port))
		}
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	victim.checkUntouched(t)
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// stuckAfter is how long a change of a link may take. toxiproxy waits for the
// goroutines of every connection, so a bug there would otherwise block the run
// silently.
const stuckAfter = 20 * time.Second

// links are the connections between the processes, by name. Each is a proxy of
// toxiproxy in this process.
type links map[string]*toxiproxy.Proxy

// openLinks opens a link to each address.
func openLinks(ctx context.Context, to map[string]string, used map[int]bool) (links, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	opened := links{}
	for name, address := range to {
		own, err := freeAddress(ctx, used)
		if err != nil {
			return nil, err
		}
		proxy := toxiproxy.NewProxy(server, name, own, address)
		if err := proxy.Start(); err != nil {
			opened.close()
			return nil, fmt.Errorf("opening the link %s: %w", name, err)
		}
		opened[name] = proxy
	}
	return opened, nil
}

// address returns the address on which the link accepts connections.
func (l links) address(name string) string { return l[name].Listen }

// toxicName is the name of the toxic of a link, which has at most one.
const toxicName = "chaos"

// addToxic adds a toxic, by its name, to a link.
func (l links) addToxic(name, what string) error {
	proxy := l[name]
	for _, t := range toxics() {
		if t.name != what {
			continue
		}
		return inTime(name, func() error {
			if t.kind == "" {
				proxy.Stop()
				return nil
			}
			spec, err := json.Marshal(map[string]any{
				"name": toxicName, "type": t.kind, "stream": t.stream, "attributes": t.attributes,
			})
			if err != nil {
				return err
			}
			_, err = proxy.Toxics.AddToxicJson(bytes.NewReader(spec))
			return err
		})
	}
	return fmt.Errorf("there is no toxic %q", what)
}

// removeToxic makes a link work again.
func (l links) removeToxic(ctx context.Context, name string) error {
	proxy := l[name]
	return inTime(name, func() error {
		proxy.Lock()
		enabled := proxy.Enabled
		proxy.Unlock()
		if !enabled {
			return proxy.Start()
		}
		proxy.Toxics.ResetToxics(ctx)
		return nil
	})
}

// close closes all links.
func (l links) close() {
	for _, proxy := range l {
		proxy.Stop()
	}
}

// inTime runs a change of a link, and returns an error if it hangs.
func inTime(name string, change func() error) error {
	done := make(chan error, 1)
	go func() { done <- change() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("changing the link %s: %w", name, err)
		}
		return nil
	case <-time.After(stuckAfter):
		return fmt.Errorf("changing the link %s: toxiproxy does not return", name)
	}
}

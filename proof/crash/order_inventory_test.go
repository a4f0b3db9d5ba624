package crash

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/rocketrides/rocketrides/examples/order"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// The stock and the price of an item, in cents.
const (
	stockAtFirst = 5
	unitPrice    = 1250
)

// An inventory executes an operation once per idempotency key. It is safe for
// concurrent use.
type inventory struct {
	mu      sync.Mutex
	left    int // that are neither reserved nor taken
	held    int // that are reserved
	taken   int
	closed  int                    // how often it will refuse to do anything
	broken  int                    // how often it will do it, and answer 500
	answers map[string]order.Stock // by idempotency key
	sends   []fakestripe.Send
}

// ServeHTTP executes or shows an operation.
func (i *inventory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the request didn't arrive as a whole
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.Method == http.MethodGet {
		i.show(w, r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
		return
	}
	key := r.Header.Get("Idempotency-Key")
	i.sends = append(i.sends, fakestripe.Send{Key: key, Body: string(body)})
	if i.closed > 0 {
		i.closed--
		http.Error(w, "closed", http.StatusServiceUnavailable)
		return
	}
	if _, done := i.answers[key]; !done {
		i.answers[key] = i.execute(string(body))
	}
	if i.broken > 0 {
		i.broken--
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	}
	i.show(w, key)
}

// show answers with what came of an operation.
func (i *inventory) show(w http.ResponseWriter, key string) {
	stock, done := i.answers[key]
	if !done {
		http.Error(w, "unknown", http.StatusNotFound)
		return
	}
	_, _ = fmt.Fprintf(w, `{"status":%q,"unit_price":%d}`, stock.Status, stock.UnitPrice) // the client may be gone
}

// execute does what a form asks for.
func (i *inventory) execute(form string) order.Stock {
	const quantity = 2
	switch {
	case strings.Contains(form, "action=reserve") && i.left < quantity:
		return order.Stock{Status: "out_of_stock"}
	case strings.Contains(form, "action=reserve"):
		i.left, i.held = i.left-quantity, i.held+quantity
		return order.Stock{Status: "reserved", UnitPrice: unitPrice}
	case strings.Contains(form, "action=take"):
		i.held, i.taken = i.held-quantity, i.taken+quantity
		return order.Stock{Status: "taken"}
	default:
		i.held, i.left = i.held-quantity, i.left+quantity
		return order.Stock{Status: "given_back"}
	}
}

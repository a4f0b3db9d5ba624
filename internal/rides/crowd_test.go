package rides

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/internal/web"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// TestACrowdIsRefusedBeforeAnythingElse: all connections are taken, and as many
// rides wait for one as may. The next request is refused at once, even though
// nobody has sent it. The others are served.
func TestACrowdIsRefusedBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "warm").must(t, http.StatusCreated, "")
	pool := h.config.Pool
	var taken []*pgxpool.Conn
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, conn)
	}
	// Who has waited in vain for two seconds hails again, so that the crowd
	// stays until a slow machine has served the stranger.
	var waiting sync.WaitGroup
	var seen atomic.Bool
	defer seen.Store(true)
	for i := range 200 {
		waiting.Go(func() {
			for try := 0; try == 0 || !seen.Load(); try++ {
				r := h.hailAs(t, h.visa, fmt.Sprint("k", i, "-", try))
				if r.status != http.StatusCreated && r.status != http.StatusServiceUnavailable {
					t.Errorf("one that waited was answered %d %s", r.status, r.body)
				}
			}
		})
	}
	stranger := call{method: http.MethodPost, path: "/v1/rides", key: "k", body: "{}"}
	var answered reply
	asked := 0
	pgtest.Eventually(t, "the stranger is refused in a crowd", func() bool {
		if h.engine.Crowded() != nil { // it may pass before the stranger comes
			answered = h.send(t, stranger)
			asked++
		}
		return answered.status == http.StatusServiceUnavailable || asked == 50
	})
	seen.Store(true)
	for _, conn := range taken {
		conn.Release()
	}
	waiting.Wait()
	answered.must(t, http.StatusServiceUnavailable, web.CodeUnavailable)
	h.send(t, stranger).must(t, http.StatusUnauthorized, web.CodeUnauthenticated)
}

// TestLookUpsOfAccountsLeaveConnections: requests of more accounts than there
// are connections come at once, and the database answers none of their
// look-ups. A ride that has begun gets the connections that it needs to end.
func TestLookUpsOfAccountsLeaveConnections(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "warm").must(t, http.StatusCreated, "")
	reached, release := h.holdCharge(t)
	begun := make(chan reply, 1)
	go func() { begun <- h.hailAs(t, h.visa, "begun") }()
	reached()
	free := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(free) })
	defer letGo()
	h.wire.Plan(func(_ int, message []byte) wire.Fault {
		if bytes.Contains(message, []byte("acct_")) && !bytes.Contains(message, []byte(h.visa.AccountID)) {
			return wire.Fault{Kind: wire.HoldBefore, Hold: func() { <-free }}
		}
		return wire.Fault{}
	})
	most := int(h.config.Pool.Config().MaxConns)
	var strangers sync.WaitGroup
	var refused atomic.Int32
	for range 2 * most {
		id := accounts.NewAccountID()
		who := accounts.Credentials{AccountID: id, APIKey: accounts.NewAPIKey(id, false)}
		strangers.Go(func() {
			h.send(t, call{method: http.MethodGet, path: "/v1/rides", as: who})
			refused.Add(1)
		})
	}
	// As many as hang have a place to read, and the others get none.
	pgtest.Eventually(t, "the strangers are refused", func() bool { return int(refused.Load()) >= 2*most-most/2 })
	release()
	(<-begun).must(t, http.StatusCreated, "")
	letGo()
	strangers.Wait()
}

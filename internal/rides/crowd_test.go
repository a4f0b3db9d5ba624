package rides

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/rocketrides/internal/web"
)

// TestACrowdIsRefusedBeforeAnythingElse: all connections are taken, and as many
// rides wait for one as may. The next request is refused at once, even though
// nobody has sent it. The others are served.
func TestACrowdIsRefusedBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.hailAs(t, h.visa, "warm").must(t, http.StatusCreated, "")
	pool := h.process.config.Pool
	var taken []*pgxpool.Conn
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, conn)
	}
	var waiting sync.WaitGroup
	for i := range 200 {
		waiting.Go(func() {
			if r := h.hailAs(t, h.visa, fmt.Sprint("k", i)); r.status != http.StatusCreated && r.status != http.StatusServiceUnavailable {
				t.Errorf("one that waited was answered %d %s", r.status, r.body)
			}
		})
	}
	waitFor(t, func() bool { return h.engine.Crowded() != nil })
	stranger := call{method: http.MethodPost, path: "/v1/rides", key: "k", body: "{}"}
	h.send(t, stranger).must(t, http.StatusServiceUnavailable, web.CodeUnavailable)
	for _, conn := range taken {
		conn.Release()
	}
	waiting.Wait()
	h.send(t, stranger).must(t, http.StatusUnauthorized, web.CodeUnauthenticated)
}

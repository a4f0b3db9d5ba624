package jobs

import (
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
	"github.com/rocketrides/rocketrides/proof/wire"
)

// lines takes what is logged, a line at a time.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// TestAStartWithoutADatabaseIsTriedAgain, and the log says why it failed.
func TestAStartWithoutADatabaseIsTriedAgain(t *testing.T) {
	t.Parallel()
	b, w, log := setup(t), wire.NewPostgres(), make(lines, 1000)
	b.stage(t, "job_", 1)
	c := b.client(t, w, b.deliver, logTo(log))
	w.Plan(func(int, []byte) wire.Fault { return wire.Fault{Kind: wire.CutBefore} })
	start(t, c)
	pgtest.Eventually(t, "the log says why", func() bool {
		select {
		case line := <-log:
			return strings.Contains(line, `task="starting River"`) && strings.Contains(line, "connection cut")
		default:
			return false
		}
	})
	w.Plan(wire.Nothing)
	pgtest.Eventually(t, "the job is delivered", func() bool { jobs, _ := b.deliveries(); return jobs == 1 })
}

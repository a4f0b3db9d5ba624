package pgserver_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerDir); dir != "" {
		runOwner(dir)
	}
	pgtest.Main(m)
}

// ownerDir names the environment variable that makes this program the owner of
// a server in that folder, until it is killed.
const ownerDir = "POSTGRES_TEST_OWNER_DIR"

func runOwner(dir string) {
	server, err := pgserver.Start(context.Background(), pgserver.Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.PID())
	select {}
}

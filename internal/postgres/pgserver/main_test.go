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
		own(dir)
	}
	pgtest.Main(m)
}

// ownerDir is set for a process that owns a server until it is killed.
const ownerDir = "POSTGRES_TEST_OWNER_DIR"

func own(dir string) {
	server, err := pgserver.StartServer(context.Background(), pgserver.ServerConfig{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.PID())
	select {}
}

package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// image is the version of Postgres that the containers run; docker-compose.yml
// has the same.
const image = "postgres:17"

// openContainer starts a server in a container. Its data is in memory: a flush
// costs nothing there, so the server can have the durable settings of
// production.
func openContainer(ctx context.Context) (string, func() error, error) {
	const port = "5432/tcp"
	password := rand.Text()
	container, err := testcontainers.Run(ctx, image,
		testcontainers.WithEnv(map[string]string{"POSTGRES_PASSWORD": password}),
		testcontainers.WithCmdArgs("-c", "max_connections=300"),
		testcontainers.WithExposedPorts(port),
		testcontainers.WithTmpfs(map[string]string{"/var/lib/postgresql/data": "rw"}),
		testcontainers.WithWaitStrategyAndDeadline(time.Minute,
			// The image starts a server twice: first without a network, to
			// prepare the data.
			wait.ForLog("database system is ready to accept connections").WithOccurrence(2),
			wait.ForListeningPort(port)),
	)
	stop := func() error { return testcontainers.TerminateContainer(container) }
	if err != nil {
		return "", nil, fmt.Errorf("starting a container: %w", errors.Join(err, stop()))
	}
	host, err := container.Host(ctx)
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	mapped, err := container.MappedPort(ctx, port)
	if err != nil {
		return "", nil, errors.Join(err, stop())
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", password),
		Host:     net.JoinHostPort(host, mapped.Port()),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String(), stop, nil
}

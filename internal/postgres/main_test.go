package postgres_test

import (
	"testing"

	"github.com/rocketrides/rocketrides/internal/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

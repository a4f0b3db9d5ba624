//go:build compose

// Package deploy_test runs docker-compose.yml in a Docker engine, and checks
// what docs/operating.md says of it. `make compose-test` runs it.
package deploy_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	// project keeps the containers of the test apart from a developer's own.
	project = "rocketrides-test"

	// image likewise; see override.
	image = project

	// override is merged with docker-compose.yml by Compose.
	override = `services: {api: {image: ` + image + `}, completer: {image: ` + image + `}, fakestripe: {image: ` + image + `}}`

	// label marks every image that the Dockerfile makes.
	label = "label=org.opencontainers.image.title=rocketrides"
)

//nolint:paralleltest // all tests use the same project
func TestContainersDoWhatTheReadmeSays(t *testing.T) {
	s := newStack(t)
	unnamed := s.must(t, "docker", "images", "--quiet", "--filter", "dangling=true", "--filter", label)
	s.session(t, "compose-secrets")
	s.session(t, "compose")

	if got := strings.Fields(s.must(t, "docker", "images", "--quiet", image)); len(got) != 1 {
		t.Errorf("there are %d images, want 1: %v", len(got), got)
	}
	if got := s.must(t, "docker", "images", "--quiet", "--filter", "dangling=true", "--filter", label); got != unnamed {
		t.Errorf("images without a name: %q, and before: %q", got, unnamed)
	}
	containers := s.containers(t)
	if len(containers) != 4 {
		t.Errorf("there are %d containers, want 4", len(containers))
	}
	for _, c := range containers {
		c.checkHardening(t)
		s.checkProcesses(t, c)
	}
	s.checkRunRestartsNothing(t)
	s.checkAddresses(t)
	s.checkRole(t)
	s.checkSecrets(t)
}

// TestTheFakeRunsByItself types what docs/fakestripe.md says.
//
//nolint:paralleltest // all tests use the same project
func TestTheFakeRunsByItself(t *testing.T) {
	s := newStack(t)
	s.must(t, "docker", "compose", "build", "api")
	s.must(t, "docker", "compose", "up", "--detach", "--wait", "fakestripe")
	if containers := s.containers(t); len(containers) != 1 {
		t.Errorf("there are %d containers, want 1", len(containers))
	}
	s.must(t, "curl", "-sSf", "http://"+s.addresses["127.0.0.1:12111"]+"/_fake/charges")
}

// A key that is named keeps the fake out. A key in the environment itself,
// where everybody would see it, starts nothing.
//
//nolint:paralleltest // all tests use the same project
func TestRealKeyReplacesTheFake(t *testing.T) {
	s := newStack(t)
	if got := s.must(t, "docker", "compose", "config", "--services"); !strings.Contains(got, "fakestripe") {
		t.Errorf("the services are %q", got)
	}
	for _, setting := range []string{"STRIPE_API_KEY_FILE=deploy/development/stripe_api_key", "STRIPE_API_KEY=sk_test_plain"} {
		with := s
		with.env = append(slices.Clone(s.env), setting)
		if got := with.must(t, "docker", "compose", "config", "--services"); strings.Contains(got, "fakestripe") || !strings.Contains(got, "api") {
			t.Errorf("with %s the services are %q", setting, got)
		}
	}
	s.env = append(s.env, "STRIPE_API_KEY=sk_test_plain")
	if out, err := s.run("docker", "compose", "up", "--detach"); err == nil || !strings.Contains(out, "set STRIPE_API_KEY_FILE instead") {
		t.Errorf("the key in the environment is taken: %v, %s", err, out)
	}
}

// checkRunRestartsNothing compares the containers before and after a command.
func (s stack) checkRunRestartsNothing(t *testing.T) {
	t.Helper()
	before := s.containers(t)
	s.must(t, "docker", "compose", "run", "--rm", "api", "accounts", "list")
	s.must(t, "docker", "compose", "run", "--rm", "completer", "keys", "list")
	after := s.containers(t)
	for i := range before {
		if before[i].ID != after[i].ID || before[i].State.StartedAt != after[i].State.StartedAt {
			t.Errorf("%s was restarted", before[i].Name)
		}
	}
}

// checkHardening looks at what keeps a container that is taken over from doing
// more harm.
func (c container) checkHardening(t *testing.T) {
	t.Helper()
	h := c.HostConfig
	if c.State.Health.Status != "healthy" {
		t.Errorf("%s is %q", c.Name, c.State.Health.Status)
	}
	if !h.ReadonlyRootfs || !slices.Equal(h.CapDrop, []string{"ALL"}) || !slices.Contains(h.SecurityOpt, "no-new-privileges:true") {
		t.Errorf("%s has too many privileges: %+v", c.Name, h)
	}
	if h.Memory == 0 || h.NanoCpus == 0 || h.PidsLimit == 0 {
		t.Errorf("%s has no limits: %+v", c.Name, h)
	}
	for port, bindings := range h.PortBindings {
		for _, b := range bindings {
			if b.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q", c.Name, port, b.HostIP)
			}
		}
	}
}

// checkProcesses checks that no process of a container is root's.
func (s stack) checkProcesses(t *testing.T, c container) {
	t.Helper()
	processes := strings.Split(strings.TrimSpace(s.must(t, "docker", "top", c.ID, "-o", "pid,uid")), "\n")[1:]
	if len(processes) == 0 {
		t.Errorf("%s has no processes", c.Name)
	}
	for _, process := range processes {
		if strings.HasSuffix(process, " 0") {
			t.Errorf("a process of %s is root's: %s", c.Name, process)
		}
	}
}

// checkAddresses asks what the document says about addresses.
func (s stack) checkAddresses(t *testing.T) {
	t.Helper()
	for documented, path := range map[string]string{
		"127.0.0.1:9090": "/metrics", "127.0.0.1:9091": "/metrics", "127.0.0.1:12111": "/_fake/charges",
	} {
		s.must(t, "curl", "-sSf", "http://"+s.addresses[documented]+path)
	}
	for _, inside := range []string{"api:9090", "completer:9091"} {
		s.must(t, "docker", "compose", "run", "--rm", "api", "health", "--admin-listen="+inside)
	}
}

// checkRole tries what only another role than the service's may do.
func (s stack) checkRole(t *testing.T) {
	t.Helper()
	superuser := []string{"compose", "exec", "-T", "postgres", "psql", "-U", "postgres", "-Atc"}
	s.must(t, "docker", append(superuser, "CREATE SCHEMA other CREATE TABLE other.t (n int)", "rocketrides")...)
	if got := s.must(t, "docker", append(superuser, "SELECT count(rolpassword) FROM pg_authid WHERE rolsuper", "rocketrides")...); got != "0\n" {
		t.Errorf("superusers with a password: %s", got)
	}
	service := []string{"compose", "exec", "-T", "postgres", "sh", "-c", `psql "$(cat /run/secrets/database_url)" -Atc "$0"`}
	if got := s.must(t, "docker", append(service, "SELECT status FROM rides")...); got != "charged\n" {
		t.Errorf("the service's role sees %q", got)
	}
	for _, sql := range []string{
		"CREATE ROLE x", "ALTER ROLE rocketrides CREATEROLE", "SET ROLE postgres", "CREATE DATABASE x", "CREATE SCHEMA x",
		"CREATE TABLE public.x ()", "INSERT INTO other.t VALUES (1)", "SELECT * FROM pg_authid", "COPY rides TO PROGRAM 'cat'",
		"SELECT pg_read_file('/run/secrets/database_url')", "ALTER SYSTEM SET fsync = off",
	} {
		if out, err := s.run("docker", append(service, sql)...); err == nil || !strings.Contains(out, "permission denied") {
			t.Errorf("%s: %v, %s", sql, err, out)
		}
	}
}

// checkSecrets looks for secrets where others than their owner could see them.
func (s stack) checkSecrets(t *testing.T) {
	t.Helper()
	secrets := []string{"sk_test_fake"}
	for file, pattern := range map[string]string{"database_url": `rocketrides:(\w+)@`, "account.json": `"api_key":"(\w+)"`} {
		found := regexp.MustCompile(pattern).FindStringSubmatch(read(t, filepath.Join(s.dir, "secrets", file)))
		if found == nil {
			t.Fatalf("%s has no secret", file)
		}
		secrets = append(secrets, found[1])
	}
	shown := map[string]string{
		"ps":             s.must(t, "ps", "axww", "-o", "args"),
		"docker history": s.must(t, "docker", "history", "--no-trunc", image),
		"docker logs":    s.must(t, "docker", "compose", "logs"),
		"docker inspect": s.must(t, "docker", "inspect", image),
	}
	for _, c := range s.containers(t) {
		shown["docker inspect"] += s.must(t, "docker", "inspect", c.ID)
	}
	for where, text := range shown {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows the secret %s", where, secret)
			}
		}
	}
}

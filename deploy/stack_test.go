//go:build compose

package deploy_test

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A stack is a copy of what the containers are built from, and the environment
// in which Compose runs.
type stack struct {
	dir string
	env []string

	// addresses has the address on the host for each of the document's.
	addresses map[string]string
}

func newStack(t *testing.T) stack {
	t.Helper()
	s := stack{dir: t.TempDir(), env: append(os.Environ(), "COMPOSE_PROJECT_NAME="+project), addresses: map[string]string{}}
	for _, folder := range []string{"api", "client", "cmd", "deploy", "internal", "migrations"} {
		if err := os.CopyFS(filepath.Join(s.dir, folder), os.DirFS(filepath.Join("..", folder))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum", "Dockerfile", ".dockerignore", "docker-compose.yml"} {
		s.write(t, name, read(t, filepath.Join("..", name)))
	}
	s.write(t, "docker-compose.override.yml", override)
	for variable, address := range map[string]string{
		"API_LISTEN": "127.0.0.1:8080", "ADMIN_LISTEN": "127.0.0.1:9090",
		"COMPLETER_ADMIN_LISTEN": "127.0.0.1:9091", "STRIPE_LISTEN": "127.0.0.1:12111",
	} {
		s.addresses[address] = freeAddress(t)
		s.env = append(s.env, variable+"="+s.addresses[address])
	}
	t.Cleanup(func() {
		s.must(t, "docker", "compose", "down", "--volumes", "--timeout", "5")
		for _, kind := range []string{"container", "volume", "network"} {
			left := s.must(t, "docker", kind, "ls", "--quiet", "--filter", "label=com.docker.compose.project="+project)
			if left != "" {
				t.Errorf("after down --volumes there is a %s: %s", kind, left)
			}
		}
		_, _ = s.run("docker", "rmi", image) // there is none if nothing was built
	})
	return s
}

// run runs a command and returns all that it prints.
func (s stack) run(name string, args ...string) (string, error) {
	command := exec.Command(name, args...) //nolint:noctx // the test's own time-out ends it
	command.Dir, command.Env = s.dir, s.env
	out, err := command.CombinedOutput()
	return string(out), err
}

// must runs a command that must succeed.
func (s stack) must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := s.run(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (s stack) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it takes no time
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

// session types the document's blocks of a kind, such as "sh compose", and
// compares with the block "text compose" after each, where "…" stands for
// anything.
func (s stack) session(t *testing.T, kind string) {
	t.Helper()
	blocks := regexp.MustCompile("(?ms)^```(sh|text) "+kind+"\n(.*?)^```$").FindAllStringSubmatch(read(t, "../docs/operating.md"), -1)
	if len(blocks) == 0 {
		t.Fatalf("the document has no blocks of the kind %s", kind)
	}
	printed := ""
	for _, block := range blocks {
		if block[1] == "sh" {
			printed = s.must(t, "bash", "-e", "-o", "pipefail", "-c", s.here(block[2]))
			continue
		}
		for line := range strings.Lines(block[2]) {
			quoted := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(line)), "…", ".*")
			pattern := regexp.MustCompile(strings.ReplaceAll(quoted, " ", `\s+`))
			found := pattern.FindStringIndex(printed)
			if found == nil {
				t.Fatalf("the document has %s where this was printed:\n%s", line, printed)
			}
			printed = printed[found[1]:]
		}
	}
}

// here replaces the document's addresses with those of the test.
func (s stack) here(text string) string {
	for documented, address := range s.addresses {
		text = strings.ReplaceAll(text, documented, address)
	}
	return text
}

// A container is the part of `docker inspect` that the test looks at.
type container struct {
	ID, Name string
	State    struct {
		StartedAt string
		Health    struct{ Status string }
	}
	HostConfig struct {
		ReadonlyRootfs              bool
		CapDrop, SecurityOpt        []string
		Memory, NanoCpus, PidsLimit int64
		PortBindings                map[string][]struct {
			HostIP string `json:"HostIp"`
		}
	}
}

// containers returns the containers of the stack, also those that have ended.
func (s stack) containers(t *testing.T) []container {
	t.Helper()
	ids := strings.Fields(s.must(t, "docker", "compose", "ps", "--all", "--quiet"))
	var found []container
	out := s.must(t, "docker", append([]string{"inspect"}, ids...)...)
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatal(err)
	}
	return found
}

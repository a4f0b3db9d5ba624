package pgtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/postgres/pgserver"
)

// childRole names the environment variable that makes this test program one of
// the children.
const childRole = "PGTEST_CHILD"

var children = map[string]func(){
	// hold starts a server, as the tests of a process do, and runs until it is
	// killed.
	"hold": func() {
		folder, err := newFolder()
		exitOn(err)
		server, err := pgserver.Start(context.Background(), pgserver.Config{Dir: folder.path})
		exitOn(err)
		fmt.Println(server.PID(), folder.path, folder.lock.Name())
		select {}
	},
	// clone makes a test's database, at the same time as other processes.
	"clone": func() {
		database, err := clone(context.Background(), os.Getenv("PGTEST_ADMIN"))
		exitOn(err)
		fmt.Println(database.name)
	},
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, role string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), append(env, childRole+"="+role)...)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestProcessesShareATemplate(t *testing.T) {
	t.Parallel()
	admin := Server(t, nil).URL()
	var processes sync.WaitGroup
	for range 4 {
		process := child(t, "clone", "PGTEST_ADMIN="+admin)
		processes.Go(func() {
			if output, err := process.Output(); err != nil || !bytes.HasPrefix(output, []byte("test_")) {
				t.Errorf("a process printed %q, %v", output, err)
			}
		})
	}
	processes.Wait()

	var templates, clones int
	for _, name := range databases(t, admin) {
		switch {
		case strings.HasPrefix(name, "rocketrides_template_"):
			templates++
		case strings.HasPrefix(name, "test_"):
			clones++
		}
	}
	if templates != 1 || clones != 4 {
		t.Errorf("4 processes made %d templates and %d databases, want 1 and 4", templates, clones)
	}
}

// TestKilledProcessLeavesNothing kills a test process with kill -9: on Linux
// its server ends at once, and the next test process removes its files.
func TestKilledProcessLeavesNothing(t *testing.T) {
	t.Parallel()
	process := child(t, "hold")
	output, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	var path, lock string
	if _, err := fmt.Sscan(line, &pid, &path, &lock); err != nil {
		t.Fatalf("%q: %v", line, err)
	}

	sweep(parentFolder())
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the folder of a process that runs was swept: %v", err)
	}

	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	for end := time.Now().Add(10 * time.Second); running(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("10s after its process was killed, the server runs")
		}
	}
	Eventually(t, "its files are swept, by this process or by another that has begun to", func() bool {
		sweep(parentFolder())
		return !slices.ContainsFunc([]string{path, lock}, func(left string) bool {
			_, err := os.Lstat(left)
			return !errors.Is(err, os.ErrNotExist)
		})
	})
}

// running reports whether a process runs. A zombie, which stays in a container
// without an init, does not.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) && !errors.Is(err, os.ErrNotExist)
	}
	return !bytes.Contains(stat, []byte(") Z "))
}

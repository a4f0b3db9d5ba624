package examples_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/rides/ridestest"
)

// programs returns the commands that run the program hail of each language.
func programs(t *testing.T) map[string][]string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "hail")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./hail").CombinedOutput(); err != nil {
		t.Fatalf("building hail: %v: %s", err, out)
	}
	all := map[string][]string{"Go": {binary}}
	if python, err := exec.LookPath("python3"); err == nil {
		script, err := filepath.Abs("hail.py")
		if err != nil {
			t.Fatal(err)
		}
		all["Python"] = []string{python, "-B", script} // -B: it writes no file beside the script
	} else if os.Getenv("CI") == "true" {
		t.Fatal("CI has no python3")
	}
	return all
}

// command returns a start of a program in a folder.
func command(t *testing.T, service *ridestest.Service, dir string, program ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	start := exec.CommandContext(ctx, program[0], program[1:]...) //nolint:gosec // it is this test's
	start.Dir = dir
	start.Env = append(os.Environ(), "API_URL="+service.URL, "API_KEY="+service.APIKey)
	return start
}

// The program is killed while Stripe is asked, and started twice after that. It
// has hailed one ride, and the card was charged once.
func TestAProgramThatIsKilledHailsOneRide(t *testing.T) {
	t.Parallel()
	for name, program := range programs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := ridestest.Start(t)
			dir := t.TempDir()
			start := func() *exec.Cmd { return command(t, service, dir, program...) }
			gate := make(chan struct{})
			service.Stripe.Script(fakestripe.Fault{Kind: fakestripe.Delayed, HoldBefore: gate})
			killed := start()
			if err := killed.Start(); err != nil {
				t.Fatal(err)
			}
			if err := service.Stripe.WaitSends(t.Context(), 1, func(s fakestripe.Send) bool { return s.Method == http.MethodPost }); err != nil {
				t.Fatal(err)
			}
			if err := killed.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = killed.Wait()
			close(gate)
			var said [2]string
			for i := range said {
				out, err := start().Output()
				if err != nil {
					t.Fatalf("start %d: %v: %s", i+2, err, out)
				}
				said[i] = string(out)
			}
			ride, rest, _ := strings.Cut(said[0], " ")
			if said[0] != said[1] || rest != "charged 2350 usd\n" || service.Stripe.Charges()[ride] != 1 || len(service.Stripe.Charges()) != 1 {
				t.Errorf("it says %q, and Stripe has %v", said, service.Stripe.Charges())
			}
		})
	}
}

// A program that can create files but write nothing into them ends where a kill
// between the two would end it: the next start must not find an empty key.
func TestAProgramThatDiesBeforeItsKeyIsWrittenLeavesNone(t *testing.T) {
	t.Parallel()
	for name, program := range programs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := ridestest.Start(t)
			dir := t.TempDir()
			limited := append([]string{"sh", "-c", `ulimit -f 0; exec "$@"`, "sh"}, program...)
			if out, err := command(t, service, dir, limited...).Output(); err == nil {
				t.Fatalf("it wrote a key in spite of the limit: %s", out)
			}
			if _, err := os.Stat(filepath.Join(dir, "ride.key")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it leaves a file: %v", err)
			}
			out, err := command(t, service, dir, program...).Output()
			if err != nil || len(service.Stripe.Charges()) != 1 {
				t.Errorf("the next start: %v: %s, and Stripe has %v", err, out, service.Stripe.Charges())
			}
		})
	}
}

// A program that isn't told where the service is says so, in one line, and makes
// no key.
func TestAProgramWithoutItsSettingsSaysSo(t *testing.T) {
	t.Parallel()
	for name, program := range programs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			start := exec.CommandContext(t.Context(), program[0], program[1:]...) //nolint:gosec // it is this test's
			start.Dir, start.Env = dir, append(os.Environ(), "API_URL=")
			out, err := start.CombinedOutput()
			if err == nil || strings.Count(string(out), "\n") != 1 {
				t.Errorf("%v: %s", err, out)
			}
			if _, err := os.Stat(filepath.Join(dir, "ride.key")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it leaves a file: %v", err)
			}
		})
	}
}

// An empty file says that a key was lost, and its ride may be charged. A new key
// might be a second charge.
func TestAnEmptyKeyIsRefused(t *testing.T) {
	t.Parallel()
	for name, program := range programs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := ridestest.Start(t)
			dir := t.TempDir()
			write(t, filepath.Join(dir, "ride.key"), nil)
			out, err := command(t, service, dir, program...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "ride.key is empty") || len(service.Stripe.Charges()) != 0 {
				t.Errorf("%v: %s, and Stripe has %v", err, out, service.Stripe.Charges())
			}
		})
	}
}

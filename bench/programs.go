package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rocketrides/rocketrides/internal/process"
)

// A program is a process that serves HTTP.
type program struct {
	*process.Child
	address string // where it serves
	metrics string // URL of its metrics
	log     string // path
}

// start starts a program that serves on address, and returns when ready answers
// 200.
func (l *lab) start(ctx context.Context, p *program, ready string, env []string, binary string, args ...string) error {
	p.log = filepath.Join(l.dir, fmt.Sprintf("%s-%d.log", filepath.Base(binary), len(l.running)))
	log, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process writes to its own copy
	command := exec.CommandContext(context.WithoutCancel(ctx), binary, args...)
	command.Env = slices.Concat(env, []string{"PATH=" + os.Getenv("PATH")})
	command.Stdout, command.Stderr = log, log
	if p.Child, err = process.Start(command, syscall.SIGKILL); err != nil {
		return fmt.Errorf("starting %s: %w", binary, err)
	}
	l.running = append(l.running, p)
	failed := make(chan error, 1)
	go func() {
		<-p.Done()
		text, _ := os.ReadFile(p.log) // the log is only for the message
		failed <- fmt.Errorf("%s has ended: %w: %s", binary, p.Err(), strings.TrimSpace(string(text)))
	}()
	return process.AwaitReady(ctx, ready, failed)
}

// startSelf starts one of this program's own commands, which serves on a free
// port.
func (l *lab) startSelf(ctx context.Context, command string, env ...string) (*program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	p := &program{address: address, metrics: "http://" + address + "/metrics"}
	ready := p.metrics
	if command == "stripe" {
		ready = "http://" + address + "/v1/account"
	}
	return p, l.start(ctx, p, ready, env, self, command, "--listen="+address)
}

// startAPI starts the api on a database, with its default settings but for the
// limit of requests and more of them, and with the memory profile of its
// default.
func (l *lab) startAPI(ctx context.Context, databaseURL string, more ...string) (*program, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	env := append(l.environment(databaseURL), "LISTEN="+address, "ADMIN_LISTEN="+admin, "RATE_LIMIT=0")
	p := &program{address: address, metrics: "http://" + admin + "/metrics"}
	return p, l.start(ctx, p, "http://"+admin+"/readyz", append(env, more...), filepath.Join(l.programs, "api"))
}

// startCompleter starts the completer on a database, with more settings.
func (l *lab) startCompleter(ctx context.Context, databaseURL string, more ...string) (*program, error) {
	admin, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	p := &program{address: admin, metrics: "http://" + admin + "/metrics"}
	env := append(l.environment(databaseURL), "ADMIN_LISTEN="+admin)
	return p, l.start(ctx, p, "http://"+admin+"/readyz", append(env, more...), filepath.Join(l.programs, "completer"))
}

// stop ends a program in order.
func (l *lab) stop(ctx context.Context, p *program) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	l.running = slices.DeleteFunc(l.running, func(running *program) bool { return running == p })
	return p.Stop(ctx)
}

func (l *lab) environment(databaseURL string) []string {
	return []string{"DATABASE_URL=" + databaseURL, "STRIPE_URL=http://" + l.stripe.address, "STRIPE_API_KEY=" + stripeKey, "LOG_FORMAT=json"}
}

// setLatency sets how long the stub takes for a charge.
func (l *lab) setLatency(ctx context.Context, latency time.Duration) error {
	_, err := get(ctx, "http://"+l.stripe.address+latencyPath+"?for="+latency.String())
	return err
}

// get returns the body of a page.
func get(ctx context.Context, page string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, http.NoBody)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s: %s", page, response.Status, body)
	}
	return string(body), err
}

// freeAddress returns a loopback address that is free at the moment.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

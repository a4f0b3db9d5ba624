// Package simulator holds the program simulator: riders who hail rides as
// people do, with all that goes wrong on their side. They are impatient, click
// twice, lose their connection, and crash. What they keep through all of that
// is the key of the ride that they want.
//
//   - rider.go: what a rider does
//   - line.go: the rider's connection, which breaks, and counts
//   - book.go: what every rider wanted and was told
//   - ledger.go: what Stripe has charged, and the faults that it gets
//   - verdict.go: whether the two agree
//   - display.go: what a person sees meanwhile
package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/rocketrides/rocketrides/client"
	"github.com/rocketrides/rocketrides/internal/cli"
)

// command is the command line of simulator.
type command struct {
	Riders    int           `help:"How many riders there are at once." default:"20"`
	Duration  time.Duration `help:"How long they hail rides." default:"30s"`
	Settle    time.Duration `help:"How long the last rides may take to end, after that." default:"2m"`
	Pace      time.Duration `help:"How long a rider pauses between two rides, on average." default:"500ms"`
	Faults    time.Duration `help:"How often Stripe gets a fault, on average; 0s is never." default:"0s"`
	Seed      uint64        `help:"What the riders' behaviour follows from; 0 chooses one." default:"0"`
	APIURL    string        `help:"Address of the API." name:"api-url" env:"API_URL" required:""`
	APIKey    string        `help:"API key of the account that pays." name:"api-key" env:"API_KEY" required:"" secret:"" placeholder:"rr_test_…"`
	StripeURL string        `help:"Address of the fake Stripe, whose ledger decides." env:"STRIPE_URL" required:""`
	Strict    bool          `help:"Fail also if a ride waits for a person."`
	JSON      bool          `help:"Print the verdict as JSON." name:"json"`
}

// Run runs the program simulator and returns its exit code: 0 every ride was
// charged once, or not at all, 1 one was not, or none was charged, or the
// simulation failed, 2 wrong usage. args are
// the arguments without the program's name. The simulation ends early with ctx,
// SIGTERM or SIGINT; the rides that are on their way then still end.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return cli.Run(ctx, "simulator",
		"Riders hail rides as people do: they are impatient, click twice, lose their connection and crash. At the end Stripe's ledger says whether one paid twice. `eval \"$(sandbox env)\"` sets what it needs. Nobody else may hail rides meanwhile.",
		new(command), args, cli.Output{Stdout: stdout, Stderr: stderr})
}

// Validate refuses settings that make no sense.
func (c *command) Validate() error {
	if c.Faults < 0 {
		return errors.New("--faults must not be negative")
	}
	if c.Riders < 1 || c.Duration <= 0 || c.Settle <= 0 || c.Pace <= 0 {
		return errors.New("--riders, --duration, --settle and --pace must be positive")
	}
	return nil
}

// Run lets the riders ride, and prints the verdict.
func (c *command) Run(ctx context.Context, o cli.Output) error {
	if c.Seed == 0 {
		c.Seed = rand.Uint64() //nolint:gosec // no secret follows from it
	}
	stripe := ledger{url: strings.TrimSuffix(c.StripeURL, "/")}
	s := &simulation{command: c, book: newBook(), line: newLine(), stripe: stripe}
	before, err := stripe.charges(ctx)
	if err != nil {
		return err
	}
	patient, err := s.newClient()
	if err != nil {
		return fmt.Errorf("%w: %w", cli.ErrUsage, err)
	}
	for _, err := range patient.List(ctx, client.ListOptions{PageSize: 1}) {
		if err != nil { // better said now than by every rider
			return fmt.Errorf("asking the API: %w", err)
		}
		break
	}
	s.ride(ctx, o.Stderr)

	// What is on its way ends although ctx has ended: else nobody could tell
	// what became of it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.Settle)
	defer cancel()
	if err := s.book.lookUp(ctx, patient); err != nil {
		return err
	}
	after, err := stripe.charges(ctx)
	if err != nil {
		return err
	}
	result := s.judge(before, after)
	if err := o.Print(c.JSON, result, result.text()); err != nil {
		return err
	}
	if err := result.fault(); err != nil {
		return fmt.Errorf("%w (seed %d)", err, c.Seed)
	}
	return nil
}

// A simulation is one run.
type simulation struct {
	*command
	book   *book
	line   *line
	stripe ledger
}

// newClient returns the client of a program that has just started.
func (s *simulation) newClient() (*client.Client, error) {
	return client.New(client.Config{
		URL: s.APIURL, APIKey: s.APIKey, Transport: s.line, Timeout: 40 * time.Second,
		Retry: client.Retry{Initial: 200 * time.Millisecond, MaxPause: 10 * time.Second},
	})
}

// ride lets all riders ride, until the last ride has ended or the time to
// settle is over, and shows how it goes.
func (s *simulation) ride(ctx context.Context, display io.Writer) {
	riding, stop := cli.UntilSignaled(ctx)
	defer stop()
	riding, endRiding := context.WithTimeout(riding, s.Duration)
	defer endRiding()
	settling, endSettling := context.WithTimeout(context.WithoutCancel(ctx), s.Duration+s.Settle)
	defer endSettling()
	// The end of the riding may come early.
	context.AfterFunc(riding, func() { time.AfterFunc(s.Settle, endSettling) })

	showing := s.show(display)
	var riders sync.WaitGroup
	if s.Faults > 0 {
		riders.Go(func() { s.spoil(riding) })
	}
	for i := range s.Riders {
		riders.Go(func() { newRider(s, i).ride(riding, settling) })
	}
	riders.Wait()
	showing()
}

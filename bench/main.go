// Bench measures the service on this machine, and beside it what could be had:
// Postgres with the statements of a ride and nothing else (the floor), and two
// other designs with the same ride. docs/performance.md says how to read it.
package main

import (
	"context"
	"errors"
	"os"
	"runtime"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// commands is the command line. The commands that are hidden are the processes
// that a run starts.
type commands struct {
	Run          bench        `cmd:"" default:"withargs" help:"Measure; this is the default."`
	Stripe       stubStripe   `cmd:"" hidden:"" help:"Stand in for Stripe."`
	DBOS         durable      `cmd:"" name:"dbos" hidden:"" help:"Serve rides as workflows of DBOS."`
	Serializable serializable `cmd:"" hidden:"" help:"Serve rides in four SERIALIZABLE transactions."`
}

// bench is the command that measures.
type bench struct {
	Quick     bool     `help:"One short round with 1 and 32 clients, in about two minutes, whatever --clients, --seconds and --rounds say."`
	Scenarios []string `help:"Only these scenarios, separated by commas; --list names them." placeholder:"NAME"`
	List      bool     `help:"List the scenarios, and exit."`
	Clients   []int    `help:"How many clients hail fresh rides at once, one run each, separated by commas." default:"1,8,32,128"`
	Seconds   float64  `help:"How many seconds each run is measured." default:"4"`
	Rounds    int      `help:"How often each run is repeated. What is compared takes turns, and the report shows medians." default:"3"`
	Peers     bool     `help:"Measure other designs beside the service." default:"true" negatable:""`
	Rows      int      `help:"How many keys and rides the scenario rows makes; 10,000,000 take 27 GB of disk, and up to 8 GB for the log." default:"10000000" placeholder:"N"`
	Out       string   `help:"Folder for results.json, results.txt and results.svg (${default})." default:"bench-results" placeholder:"DIR"`
	Programs  string   `help:"Folder of the programs api and completer; the folder of this program if it isn't given." placeholder:"DIR"`
}

// Validate refuses settings that make no sense.
func (b *bench) Validate() error {
	if b.Seconds <= 0 || b.Rounds < 1 || b.Rows < 1 || len(b.Clients) == 0 {
		return errors.New("--seconds, --rounds, --rows and --clients must be positive")
	}
	for _, n := range b.Clients {
		if n < 1 || n > 300 {
			return errors.New("--clients must be from 1 to 300")
		}
	}
	if b.Quick {
		b.Rounds, b.Seconds, b.Clients = 1, 1.5, []int{1, 32}
	}
	return b.checkScenarios()
}

// processors is how many processors this machine has.
func processors() int { return runtime.NumCPU() }

func main() {
	os.Exit(cli.Run(context.Background(), "bench", "Measure Rocket Rides on this machine.",
		new(commands), os.Args[1:], cli.Output{Stdout: os.Stdout, Stderr: os.Stderr}))
}

package cli_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// kiosk is a program with a default command and others under a word.
type kiosk struct {
	Sell  sell  `cmd:"" default:"withargs" help:"Sell what there is."`
	Stock stock `cmd:"" help:"What there is."`
}

type sell struct {
	Price int `help:"Cents." required:"" env:"KIOSK_PRICE"`
}

func (*sell) Run(context.Context) error { return nil }

type stock struct {
	List list `cmd:"" help:"List it."`
}

type list struct {
	Shelf string `help:"Which shelf." required:""`
}

func (*list) Run(context.Context) error { return nil }

// Whoever has called a command is sent to the help that explains it, and told
// of the variables that can be set instead of flags.
func TestUsageIsThatOfTheCommandThatWasCalled(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                   "missing flags: --price=INT (or set KIOSK_PRICE)\nRun kiosk --help",
		"apples":             "unexpected argument apples\nRun kiosk --help",
		"stock count":        "unexpected argument count\nRun kiosk stock --help",
		"stock list":         "missing flags: --shelf=STRING\nRun kiosk stock list --help",
		"stock list --price": "unknown flag --price\nRun kiosk stock list --help",
	} {
		var stderr bytes.Buffer
		code := cli.Run(t.Context(), "kiosk", "A kiosk.", new(kiosk), strings.Fields(args), cli.Output{Stderr: &stderr})
		if got, want := stderr.String(), "kiosk: wrong usage: "+want+" for its usage.\n"; code != 2 || got != want {
			t.Errorf("%q: exit %d, %q, want %q", args, code, got, want)
		}
	}
}

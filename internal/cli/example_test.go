package cli_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rocketrides/rocketrides/internal/cli"
)

// parcels is a program with one command.
type parcels struct {
	Send send `cmd:"" help:"Send a parcel."`
}

// send is the command: its fields are its flags and arguments.
type send struct {
	To     string `arg:"" help:"Who gets it."`
	Weight int    `help:"Grams." default:"500" env:"PARCEL_WEIGHT"`
	JSON   bool   `help:"Print JSON." name:"json"`
}

func (c *send) Validate() error {
	if c.Weight < 1 {
		return errors.New("--weight must be positive")
	}
	return nil
}

func (c *send) Run(_ context.Context, o cli.Output) error {
	if c.To == "nobody" {
		return errors.New("there is no such person")
	}
	return o.Print(c.JSON, c, fmt.Sprintf("%d g go to %s\n", c.Weight, c.To))
}

func ExampleRun() {
	o := cli.Output{Stdout: os.Stdout, Stderr: os.Stdout}
	for _, args := range [][]string{
		{"send", "ann"},
		{"send", "ann", "--weight=20", "--json"},
		{"send", "nobody"},
		{"send", "ann", "--weight=0"},
		{"return"},
		{"--version"},
		{"send", "--version"},
	} {
		code := cli.Run(context.Background(), "parcels", "Parcels for people.", new(parcels), args, o)
		fmt.Println("exit code", code)
	}
	// Output:
	// 500 g go to ann
	// exit code 0
	// {"To":"ann","Weight":20,"JSON":true}
	// exit code 0
	// parcels: there is no such person
	// exit code 1
	// parcels: wrong usage: send: --weight must be positive
	// Run parcels send --help for its usage.
	// exit code 2
	// parcels: wrong usage: unexpected argument return
	// Run parcels --help for its usage.
	// exit code 2
	// parcels devel
	// exit code 0
	// parcels devel
	// exit code 0
}

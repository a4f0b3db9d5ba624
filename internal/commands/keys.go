package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/rocketrides/rocketrides/internal/cli"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/rides"
)

type keysListFlags struct {
	databaseFlags
	jsonFlags
	Parked     bool          `help:"Only those that wait for a person." xor:"state"`
	Unfinished bool          `help:"Only those without an answer." xor:"state"`
	OlderThan  time.Duration `help:"Only those made at least so long ago." placeholder:"DURATION"`
	Account    string        `help:"Only this account's." placeholder:"acct_…"`
	Limit      int           `help:"Most keys to list." default:"1000"`
}

func (f *keysListFlags) run(ctx context.Context, o cli.Output) error {
	pool, err := f.open(ctx, "keys", adminConnections, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	records, err := phases.Keys{Pool: pool}.List(ctx, phases.Filter{
		Account: f.Account, Parked: f.Parked, Unfinished: f.Unfinished, OlderThan: f.OlderThan, Limit: max(f.Limit, 1),
	})
	if err != nil {
		return err
	}
	if records == nil {
		records = []phases.Record{}
	}
	lines := table("ACCOUNT\tKEY\tRECOVERY POINT\tATTEMPTS\tCREATED\tSTATE", records, func(r phases.Record) string {
		return fmt.Sprintf("%s\t%s\t%s\t%d\t%s\t%s", r.Account, r.Key, r.RecoveryPoint, r.Attempts,
			r.CreatedAt.UTC().Format(timeFormat), state(r))
	})
	return o.Print(f.JSON, records, lines)
}

// state says in a word or two how a key stands.
func state(r phases.Record) string {
	switch {
	case r.ReapedAt != nil:
		return "reaped"
	case r.FinishedAt != nil:
		return fmt.Sprint("finished ", r.Status)
	case r.ParkedReason != "":
		return "parked " + r.ParkedReason
	case r.Leased:
		return "in hand"
	default:
		return "due " + r.RunAfter.UTC().Format(timeFormat)
	}
}

// keyFlags name one key.
type keyFlags struct {
	Account string `help:"The key's account, where several accounts use the same key." placeholder:"acct_…"`
	Key     string `arg:"" help:"The Idempotency-Key."`
}

// find returns the one key that is meant.
func (f *keyFlags) find(ctx context.Context, keys phases.Keys) (phases.Record, error) {
	found, err := keys.Show(ctx, f.Account, f.Key)
	if err != nil {
		return phases.Record{}, err
	}
	switch len(found) {
	case 0:
		return phases.Record{}, fmt.Errorf("there is no key %q", f.Key)
	case 1:
		return found[0], nil
	}
	accounts := make([]string, len(found))
	for i, record := range found {
		accounts[i] = record.Account
	}
	return phases.Record{}, fmt.Errorf("several accounts use the key %q; say which with --account: %s", f.Key, strings.Join(accounts, ", "))
}

type keysShowFlags struct {
	databaseFlags
	keyFlags
	jsonFlags
}

func (f *keysShowFlags) run(ctx context.Context, o cli.Output) error {
	pool, err := f.open(ctx, "keys", adminConnections, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	record, err := f.find(ctx, phases.Keys{Pool: pool})
	if err != nil {
		return err
	}
	lines, err := lay(record)
	if err != nil {
		return err
	}
	return o.Print(f.JSON, record, lines)
}

// lay shows a record one field a line, under the names that its JSON has.
func lay(record phases.Record) (string, error) {
	encoded, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encoding key: %w", err)
	}
	return string(encoded) + "\n", nil
}

type keysChangeFlags struct {
	databaseFlags
	keyFlags
	By string `help:"Who decides, for the audit record; your numeric user id where nothing is given." env:"USER"`
}

func (f *keysChangeFlags) run(ctx context.Context, o cli.Output, verb string) error {
	pool, err := f.open(ctx, "keys", adminConnections, nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	keys := phases.Keys{Pool: pool}
	record, err := f.find(ctx, keys)
	if err != nil {
		return err
	}
	if verb == "park" {
		err = keys.Park(ctx, record, who(f.By))
	} else {
		err = keys.Retry(ctx, record, who(f.By))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", record.Key, err)
	}
	fmt.Fprintf(o.Stdout, "%s of %s %s\n", record.Key, record.Account, changed(verb, record))
	return nil
}

// changed says what becomes of a key that was as seen. While a lease stands its
// last worker may still be calling, and nobody else takes the key.
func changed(verb string, seen phases.Record) string {
	switch {
	case verb == "park":
		return "is parked: nothing happens to it before `keys retry` or `keys resolve`"
	case seen.Leased && seen.LeasedUntil != nil:
		return "is due at " + seen.LeasedUntil.UTC().Format(timeFormat) + ", when its last worker's lease ends: the completer takes it then"
	default:
		return "is due now: the completer takes it next"
	}
}

type keysResolveFlags struct {
	workFlags
	keyFlags
	By         string `help:"Who decides, for the audit record; your numeric user id where nothing is given." env:"USER"`
	Charged    string `help:"The payment intent that paid this ride. It must have succeeded, for this ride, and not be refunded." xor:"decision" placeholder:"pi_…"`
	NotCharged bool   `help:"Nothing was charged. Refused when Stripe has anything that says otherwise." xor:"decision"`
}

// Validate asks for one of the two decisions.
func (f *keysResolveFlags) Validate() error {
	if f.Charged == "" && !f.NotCharged {
		return errors.New("say --charged pi_… or --not-charged")
	}
	if f.Charged != "" && !isStripeID("pi_", f.Charged) {
		return errors.New("--charged must be Stripe's id of a payment intent: pi_…")
	}
	return f.workFlags.Validate()
}

func (f *keysResolveFlags) run(ctx context.Context, o cli.Output, log *slog.Logger) error {
	work, err := f.open(ctx, "keys", log, nil)
	if err != nil {
		return err
	}
	defer work.pool.Close()
	record, err := f.find(ctx, phases.Keys{Pool: work.pool})
	if err != nil {
		return err
	}
	resolver := rides.Resolver{Engine: work.engine, Stripe: work.stripe}
	var result phases.Result
	if f.Charged != "" {
		result, err = resolver.ResolveCharged(ctx, record, who(f.By), f.Charged)
	} else {
		result, err = resolver.ResolveNotCharged(ctx, record, who(f.By))
	}
	if err != nil {
		return unresolved(record.Key, err)
	}
	fmt.Fprintf(o.Stdout, "%s of %s is finished with %d\n", record.Key, record.Account, result.Answer.Status)
	return nil
}

// unresolved says what an operator must know of a decision that failed: where
// the database was lost on the way, it may have been carried out all the same.
func unresolved(key string, err error) error {
	if errors.Is(err, phases.ErrUnavailable) {
		return fmt.Errorf("it is unclear whether %s was resolved; look with `keys show`: %w", key, err)
	}
	return fmt.Errorf("%s was not resolved, and nothing was changed: %w", key, err)
}

// who names the operator in an audit record.
func who(by string) string {
	if by != "" {
		return by
	}
	return fmt.Sprint("uid ", os.Getuid())
}

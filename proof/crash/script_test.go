package crash

import (
	"time"

	"github.com/rocketrides/rocketrides/internal/fakestripe"
)

// An end is how a request comes to rest: charged or refunded, declined or
// refused, pending (Stripe is still working on it), or parked for a reason.
type end string

const (
	charged  end = "charged"
	declined end = "declined"
	pending  end = "pending"
	refunded end = "refunded"
	refused  end = "refused"

	parkedFor400      end = "parked stripe_400"
	parkedFor500      end = "parked stripe_500"
	parkedForMismatch end = "parked stripe_mismatch"
	parkedForWindow   end = "parked window_over"
)

// A script is how Stripe behaves in a trial, and how the request may end then.
type script struct {
	name string
	// card is the payment method. Empty means a card that can be charged.
	card string
	// before is what happens at Stripe, or beside it, before the request.
	before func(*run) error
	// fault strikes the first charge or refund that arrives as a whole.
	fault fakestripe.Fault
	// ends are the right ends. The first one is the end of a run without other
	// faults. There are more if an answer that Stripe does not save can be
	// lost.
	ends []end
	// meanwhile is what happens at Stripe before each recovery.
	meanwhile func(*fakestripe.Server) error
	// later is what happens at Stripe after the request has come to rest.
	later func(*fakestripe.Server) error
	// rounds is how many rounds of recovery there are at most. It is set if
	// recovery is in vain, so that more rounds would show nothing new.
	rounds int
	// windowOver lets the window end, in which a charge may be sent. No worker
	// is held then: it would look at its own clock, which a trial cannot move.
	windowOver bool
	// torn is set if messages to Postgres are torn as well.
	torn bool
}

// faults returns the faults of the script for the fake Stripe.
func (s script) faults(path string) []fakestripe.Fault {
	if s.fault.Kind == "" {
		return nil
	}
	fault := s.fault
	fault.Match.Path = path
	return []fakestripe.Fault{fault}
}

// once returns the script in which Stripe has one fault.
func once(name string, kind fakestripe.Kind, ends ...end) script {
	return script{name: name, fault: fakestripe.Fault{Kind: kind}, ends: ends}
}

// card returns the script in which the account has another card.
func card(name, method string, ends ...end) script {
	return script{name: name, card: method, ends: ends}
}

// with returns the script with options of its fault.
func (s script) with(change func(*fakestripe.Fault)) script {
	change(&s.fault)
	return s
}

// advance returns what moves the clock of the fake Stripe.
func advance(d time.Duration) func(*fakestripe.Server) error {
	return func(fake *fakestripe.Server) error { return fake.Advance(d) }
}

// endProcessing ends every payment that Stripe is still processing.
func endProcessing(fake *fakestripe.Server, how func(intent string) error) error {
	for _, intent := range fake.PaymentIntents() {
		if intent.Status != "processing" {
			continue
		}
		if err := how(intent.ID); err != nil {
			return err
		}
	}
	return nil
}

func settle(fake *fakestripe.Server) error { return endProcessing(fake, fake.Settle) }

func refuse(fake *fakestripe.Server) error {
	return endProcessing(fake, func(intent string) error { return fake.Decline(intent, "insufficient_funds") })
}

const (
	cardDefers = "pm_fake_processing"
	soon       = 5 * time.Minute
	hours      = 3 * time.Hour
)

// chargeScripts are the scripts for flows that charge a card.
var chargeScripts = []script{
	{name: happy, ends: []end{charged}, torn: true},
	card("declined", "pm_card_chargeCustomerFail", declined),
	card("authentication", "pm_card_authenticationRequired", declined),
	card("soft-decline", "pm_fake_tryAgainLater", declined),
	once("402", fakestripe.Declined402, declined).with(func(f *fakestripe.Fault) { f.DeclineCode = "insufficient_funds" }),
	once("500-unsaved", fakestripe.Unsaved500, charged),
	{name: "500-effect", fault: fakestripe.Fault{Kind: fakestripe.Saved500WithEffect}, ends: []end{charged}, torn: true},
	once("500-nothing", fakestripe.Saved500WithoutEffect, parkedFor500),
	{
		name: "500-forward", ends: []end{charged}, meanwhile: advance(2 * soon),
		fault: fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: fakestripe.Duration(soon)},
	},
	{
		name: "500-late", ends: []end{parkedFor500}, later: advance(hours),
		fault: fakestripe.Fault{Kind: fakestripe.Saved500WithoutEffect, RollForwardAfter: fakestripe.Duration(hours)},
	},
	once("409", fakestripe.InUse409, charged),
	once("lock-409", fakestripe.LockTimeout, charged).with(func(f *fakestripe.Fault) { f.Status = 409 }),
	once("lock-429", fakestripe.LockTimeout, charged),
	once("429", fakestripe.RateLimited429, charged).with(func(f *fakestripe.Fault) { f.RetryAfter = fakestripe.Duration(time.Second) }),
	once(failing, fakestripe.Unavailable503, charged).with(func(f *fakestripe.Fault) { f.RetryAfter = fakestripe.Duration(time.Second) }),
	once("502", fakestripe.BadGateway502, charged),
	once("truncated", fakestripe.Truncated200, charged),
	once("empty", fakestripe.Empty200, charged),
	once("drip", fakestripe.SlowDrip, charged).with(func(f *fakestripe.Fault) { f.Over = fakestripe.Duration(5 * time.Millisecond) }),
	once("drop-before", fakestripe.DropBefore, charged),
	once("drop-after", fakestripe.DropAfter, charged),
	once("400-card", fakestripe.BadRequest400, declined, charged, parkedFor400).with(func(f *fakestripe.Fault) { f.Code = "expired_card" }),
	once("400", fakestripe.BadRequest400, charged, parkedFor400).with(func(f *fakestripe.Fault) { f.Code = "parameter_unknown" }),
	once("400-intent", fakestripe.BadRequest400, declined, charged, parkedFor400).with(func(f *fakestripe.Fault) { f.Intent = true }),
	once("400-saved", fakestripe.Saved400, parkedFor400),
	// A send that was torn before it may have charged for all that we know, so
	// a person decides then.
	once("400-saved-intent", fakestripe.Saved400, declined, parkedFor400).with(func(f *fakestripe.Fault) { f.Intent = true }),
	once("401", fakestripe.Unauthorized401, charged),
	once("403", fakestripe.Forbidden403, charged),
	once("mismatch", fakestripe.OtherObject, parkedForMismatch, charged).with(func(f *fakestripe.Fault) { f.Set = map[string]any{"amount": 1} }),
	{name: "processing", card: cardDefers, ends: []end{charged}, meanwhile: settle},
	{name: "processing-declined", card: cardDefers, ends: []end{declined}, meanwhile: refuse},
	{name: "processing-still", card: cardDefers, ends: []end{pending}, later: settle, rounds: 2},
	{
		name: "window-charged", windowOver: true, ends: []end{charged, parkedForWindow},
		fault: fakestripe.Fault{Kind: fakestripe.DropAfter},
	},
	{
		// Two workers may send one after the other before the window closes.
		name: "window-nothing", windowOver: true, ends: []end{parkedForWindow, charged},
		fault: fakestripe.Fault{Kind: fakestripe.DropBefore},
	},
}

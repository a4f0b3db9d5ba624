package payments

import (
	"context"
	"errors"
	"net/http"

	stripe "github.com/stripe/stripe-go/v76"
)

// Account returns the id (acct_…) of the Stripe account that the API key
// belongs to. It asks even while Refuse or a refused API key keeps all other
// requests from being sent.
func (s *Stripe) Account(ctx context.Context) (string, error) {
	id, o := s.readAccount(ctx)
	if s.countRow(o).then != verdictYes {
		return "", o.asError()
	}
	return id, nil
}

// askKey asks whether Stripe accepts the API key at all.
func (s *Stripe) askKey(ctx context.Context) keyState {
	_, o := s.readAccount(ctx)
	switch s.countRow(o).then {
	case verdictYes:
		return keyAccepted
	case verdictNo:
		return keyRefused
	default:
		return keyUnclear
	}
}

// readAccount asks for the account of the API key, and returns its id.
func (s *Stripe) readAccount(ctx context.Context) (string, *observation) {
	answer := new(stripe.Account)
	o := s.roundTrip(ctx, request{call: callAccount, method: http.MethodGet, path: "/v1/account"}, answer)
	o.call = callAccount
	if answer.Object != "account" || answer.ID == "" || !isWord(answer.ID) {
		o.distrust()
	}
	return answer.ID, o
}

// accountRows judge the question whether Stripe accepts the API key.
func accountRows() []resultRow {
	return []resultRow{
		{name: "account_known", then: verdictYes, when: (*observation).hasObject},
		{name: "account_refused", then: verdictNo, when: (*observation).keyDoubted},
		{name: "account_unclear", then: verdictUnknown, when: func(o *observation) bool { return !o.hasObject() && !o.keyDoubted() }},
	}
}

// Refuse keeps every request but Account's from being sent, until Allow. It is
// for an API key that Stripe accepts and that must not be used, such as one of
// another Stripe account, where every customer would seem to be missing. reason
// is shown in the errors of the requests. A later call replaces the reason.
// Requests that are on their way are not stopped.
func (s *Stripe) Refuse(reason string) {
	err := errors.New(reason)
	s.guard.refused.Store(&err)
	s.metrics.keyRefused.set(refusedByUs, true)
}

// Allow ends what Refuse began.
func (s *Stripe) Allow() {
	s.guard.refused.Store(nil)
	s.metrics.keyRefused.set(refusedByUs, false)
}

package rides

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/trace"
	"github.com/rocketrides/rocketrides/internal/web"
)

// disputeTimeout bounds the question for disputes, which may go unanswered.
const disputeTimeout = 5 * time.Second

// checkCancel validates a new request to cancel a ride. Its body is empty.
func checkCancel(_ context.Context, _ *phases.Request, body []byte) error {
	faults, err := readObject(body, func(f *faultList) { f.object() })
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		return invalidNew(faults)
	}
	return nil
}

// askForDisputes asks Stripe for the disputes of a ride that is to be canceled,
// because none of Stripe's events may have come: a dispute that keeps the ride
// from being refunded must be known when claimRide looks at the ride, since such
// a request leaves no key. If Stripe can't be asked, the request goes on, and
// Stripe's answer to the refund decides.
func (s *Service) askForDisputes(ctx context.Context, request *phases.Request) error {
	id, err := refundedID(phases.Key{Params: request.Params})
	if err != nil {
		return err
	}
	ride, err := s.refundable(ctx, request.Account, id)
	if ride.intent == "" || err != nil {
		return err
	}
	ctx = trace.With(ctx, slog.String("account", request.Account), slog.String("key", request.Key), slog.String("request_id", request.RequestID))
	ctx, cancel := context.WithTimeout(phases.WithCaller(ctx, phases.Caller{Account: request.Account}), disputeTimeout)
	defer cancel()
	dispute, err := s.stripe.DisputeOf(ctx, ride.intent)
	if err != nil {
		s.log.WarnContext(ctx, "asking for disputes: Stripe's answer to the refund decides", slog.String("ride", id), slog.Any("error", err))
		return nil
	}
	if dispute == ride.dispute {
		return nil
	}
	return s.showDispute(ctx, request.Account, id, ride.epoch, dispute)
}

// refundableRide is what a check for disputes needs to know of a ride.
type refundableRide struct {
	intent  string // "" if no key could claim the ride now
	dispute payments.Dispute
	epoch   int64 // see stripe_epoch in the migration
}

// refundable returns what is known of a ride.
func (s *Service) refundable(ctx context.Context, account, id string) (refundableRide, error) {
	var ride refundableRide
	err := s.rerun(ctx, func(ctx context.Context) error {
		return s.pool.QueryRow(ctx, `
			SELECT payment_intent_id, disputed, refund_blocked, stripe_epoch
			FROM rides
			WHERE account_id = $1 AND id = $2 AND status = 'charged' AND cancel_key IS NULL`,
			account, id).Scan(&ride.intent, &ride.dispute.Open, &ride.dispute.Refuses, &ride.epoch)
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return refundableRide{}, fmt.Errorf("reading ride: %w", err)
	}
	return ride, nil
}

// showDispute stores what the disputes of a ride amount to.
func (s *Service) showDispute(ctx context.Context, account, id string, epoch int64, seen payments.Dispute) error {
	err := s.rerun(ctx, func(ctx context.Context) error { // the second run finds another epoch
		_, err := s.pool.Exec(ctx, setDispute, account, id, epoch, seen.Open, seen.Refuses)
		return err
	})
	if err != nil {
		return fmt.Errorf("storing dispute: %w", err)
	}
	return nil
}

// openRefund answers 202 to a request whose refund Stripe holds. The key may
// have reached its end in the meantime; the ride is shown as the key was.
func (s *Service) openRefund(w http.ResponseWriter, r *web.Request, account string, after time.Duration) error {
	seen, err := s.sight(r.Context(), account, r.PathValue("id"))
	if err != nil {
		return err
	}
	ride := seen.ride
	ride.Status = StatusCharged
	w.Header().Set("Location", ridePath(ride.ID))
	w.Header().Set("Retry-After", strconv.Itoa(web.ForeignRetryAfter(after)))
	return web.AnswerJSON(w, r, http.StatusAccepted, ride)
}

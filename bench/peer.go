package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rocketrides/rocketrides/internal/cli"
)

//go:embed peers/schema.sql
var peerSchema string

// peerConnections is the size of a peer's pool, which is more than the api has
// by default.
const peerConnections = 20

// A peer is another design, as a service with the same route and the same
// ride. It leaves out what costs time and isn't its point: authentication,
// validation, logs.
type peer struct {
	Listen      string `help:"Address to serve." required:""`
	DatabaseURL string `help:"Postgres." required:"" env:"DATABASE_URL"`
	StripeURL   string `help:"The stub of Stripe." required:"" env:"STRIPE_URL"`
}

// open returns a pool.
func (p peer) open(ctx context.Context) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(p.DatabaseURL)
	if err != nil {
		return nil, err
	}
	config.MaxConns = peerConnections
	return pgxpool.NewWithConfig(ctx, config)
}

// serve answers POST /v1/rides with what hail returns, until a signal.
func (p peer) serve(ctx context.Context, log *slog.Logger, hail func(ctx context.Context, r peerRide) (int, error)) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.Handler())
	mux.HandleFunc("POST /v1/rides", func(w http.ResponseWriter, r *http.Request) {
		ride, err := readRide(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		status, err := hail(r.Context(), ride)
		if err != nil {
			log.ErrorContext(r.Context(), "a ride failed", slog.Any("error", err))
			status = http.StatusInternalServerError
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(ride) // the client may have gone
	})
	listener, err := cli.Listen(ctx, "listen", p.Listen)
	if err != nil {
		return err
	}
	server := cli.NewServer(mux, log)
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// A peerRide is a ride as peers know it.
type peerRide struct {
	ID, Account, Key string
	Origin, Target   struct{ Lat, Lon float64 }
	Amount           int64
	Charge, Intent   string
}

// readRide reads a request. Who asks is believed.
func readRide(r *http.Request) (peerRide, error) {
	ride := peerRide{
		ID: "ride_" + uuid.Must(uuid.NewV7()).String(), Account: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
		Key: r.Header.Get("Idempotency-Key"), Amount: 2350,
	}
	return ride, json.NewDecoder(r.Body).Decode(&ride)
}

// audit is the data of the ride's audit record. The key stands in for the id of
// the request, which is as long.
func (r peerRide) audit() string {
	return fmt.Sprintf(`{"request_id":%q}`, r.Key)
}

// receipt is the argument of the ride's job.
func (r peerRide) receipt() string {
	return fmt.Sprintf(`{"ride_id":%q,"charge_id":%q,"amount":%d,"currency":"usd"}`, r.ID, r.Charge, r.Amount)
}

// charge charges the ride's card.
func (p peer) charge(ctx context.Context, client *http.Client, r peerRide) (peerRide, error) {
	operation := strings.ReplaceAll(r.ID, "-", "")
	form := url.Values{
		"amount": {strconv.FormatInt(r.Amount, 10)}, "currency": {"usd"}, "customer": {"cus_bench"}, "payment_method": {"pm_card_visa"},
		"confirm": {"true"}, "off_session": {"true"}, "payment_method_types[0]": {"card"}, "description": {"Ride " + r.ID},
		"metadata[ride_id]": {r.ID}, "metadata[account_id]": {r.Account}, "metadata[operation]": {operation},
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.StripeURL+"/v1/payment_intents", strings.NewReader(form.Encode()))
	if err != nil {
		return r, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer "+stripeKey)
	request.Header.Set("Idempotency-Key", operation)
	response, err := client.Do(request)
	if err != nil {
		return r, err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	var intent struct {
		ID           string `json:"id"`
		LatestCharge string `json:"latest_charge"`
		Status       string `json:"status"`
	}
	if err := json.NewDecoder(response.Body).Decode(&intent); err != nil {
		return r, err
	}
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection can be used again
	if intent.Status != "succeeded" {
		return r, fmt.Errorf("the payment is %s", intent.Status)
	}
	r.Intent, r.Charge = intent.ID, intent.LatestCharge
	return r, nil
}

// stripeClient keeps its connections, as the api does.
func stripeClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
}

// startPeer makes a database for a peer, and starts it.
func (l *lab) startPeer(ctx context.Context, name, command string) (*system, error) {
	if err := l.createDatabase(ctx, command); err != nil {
		return nil, err
	}
	if err := l.exec(ctx, command, peerSchema); err != nil {
		return nil, err
	}
	s := &system{name: name, database: command, url: l.url(command)}
	s.start = func(ctx context.Context, databaseURL string) (*program, error) {
		return l.startSelf(ctx, command, l.environment(databaseURL)...)
	}
	var err error
	if s.service, err = s.start(ctx, s.url); err != nil {
		return nil, err
	}
	someone := []account{{APIKey: "acct_one"}, {APIKey: "acct_two"}, {APIKey: "acct_three"}, {APIKey: "acct_four"}}
	next := freshRides(someone)
	s.load = func(ctx context.Context, w workload, r *recorder) error {
		return httpLoad(s.service.address, next)(ctx, w, r)
	}
	return s, nil
}

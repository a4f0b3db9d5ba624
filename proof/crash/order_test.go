package crash

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/rocketrides/examples/order"
	"github.com/rocketrides/rocketrides/internal/accounts"
	"github.com/rocketrides/rocketrides/internal/fakestripe"
	"github.com/rocketrides/rocketrides/internal/payments"
	"github.com/rocketrides/rocketrides/internal/phases"
)

// orders is the flow of examples/order.
var orders = flow{
	name:    "order",
	service: orderService,
	schema:  order.Schema,
	called:  "payment_decided",
	sent:    "/v1/payment_intents",
	stored:  `EXISTS (SELECT FROM orders o WHERE o.account_id = k.account_id AND o.key = k.key)`,
	beside:  func() http.Handler { return &inventory{left: stockAtFirst, answers: map[string]order.Stock{}} },
	path:    func(*run) string { return "/v1/orders" },
	body:    `{"item":"book","quantity":2}`,
	others:  `{"item":"book","quantity":3}`,
	done:    http.StatusCreated,
	refused: []int{http.StatusPaymentRequired, http.StatusConflict},

	conflict: "out_of_stock",
	long:     true,
	stranger: "invalid_parameters",
	resolve:  resolvePayment,
	look:     lookAtOrders,
	scripts:  orderScripts,
	checks:   orderChecks,
}

// orderService returns the service that has the flow, with its route.
func orderService(p *process, stripe *payments.Stripe) service {
	store := accounts.Store{Pool: p.pool}
	client := &http.Client{Transport: p.transport, Timeout: callTimeout}
	flow := order.Flow(stripe, store, order.Inventory{URL: p.lane.server.URL + "/beside/operations", HTTP: client})
	return service{flows: []phases.Flow{flow}, handler: func(engine *phases.Engine) http.Handler {
		return order.Handler(engine, flow, accounts.NewAuthenticator(p.pool, false, nil), slog.New(slog.DiscardHandler))
	}}
}

// stock returns the run's inventory.
func (r *run) stock() *inventory {
	found, _ := r.beside.(*inventory)
	return found
}

// inInventory returns the script in which something is the matter with the
// inventory.
func inInventory(name string, change func(*inventory), ends ...end) script {
	return script{name: name, ends: ends, before: func(r *run) error { change(r.stock()); return nil }}
}

// orderScripts are those of Stripe that differ to the flow, and those of the
// inventory.
var orderScripts = []script{
	{name: happy, ends: []end{charged}, torn: true},
	card("declined", "pm_card_chargeCustomerFail", declined),
	once("500-unsaved", fakestripe.Unsaved500, charged),
	once("500-effect", fakestripe.Saved500WithEffect, charged),
	once("500-nothing", fakestripe.Saved500WithoutEffect, parkedFor500),
	once(failing, fakestripe.Unavailable503, charged).with(func(f *fakestripe.Fault) { f.RetryAfter = fakestripe.Duration(time.Second) }),
	once("drop-after", fakestripe.DropAfter, charged),
	{name: "processing-declined", card: cardDefers, ends: []end{declined}, meanwhile: refuse},
	inInventory("out-of-stock", func(i *inventory) { i.left = 1 }, refused),
	inInventory("inventory-closed", func(i *inventory) { i.closed = 1 }, charged),
	inInventory("inventory-broken", func(i *inventory) { i.broken = 1 }, charged),
}

// resolvePayment resolves a key as charged if Stripe shows the charge, else as
// declined. What the inventory is asked for after that is the completer's.
func resolvePayment(ctx context.Context, r *run, parked phases.Record) error {
	charge := payments.Charge{Status: payments.ChargeDeclined, DeclineKind: "payment_failed"}
	for _, intent := range r.fake.PaymentIntents() {
		if intent.Status == "succeeded" {
			charge = payments.Charge{Status: payments.ChargeSucceeded, ChargeID: intent.ChargeID, IntentID: intent.ID}
		}
	}
	if _, err := r.lane.calm.engine.ResolveResult(ctx, parked, "ann", string(charge.Status), charge); err != nil {
		return fmt.Errorf("resolving: %w", err)
	}
	if err := r.passTime(ctx); err != nil {
		return err
	}
	return r.completeCalmly(ctx)
}

// An orderRow is an order as the database holds it.
type orderRow struct {
	id, status, charge string
	quantity, amount   int64
}

// lookAtOrders queues the queries about orders and their jobs.
func lookAtOrders(s *snapshot, batch *pgx.Batch, account string) {
	batch.Queue(`
		SELECT id, status, charge_id, quantity, amount
		FROM orders
		WHERE account_id = $1`, account).Query(func(rows pgx.Rows) (err error) {
		s.own, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (any, error) {
			var o orderRow
			err := row.Scan(&o.id, &o.status, &o.charge, &o.quantity, &o.amount)
			return o, err
		})
		return err
	})
	batch.Queue(`
		SELECT kind, key, args::jsonb->>'charge', (args::jsonb->>'amount')::bigint
		FROM order_jobs
		WHERE account_id = $1
		ORDER BY kind`, account).Query(func(rows pgx.Rows) (err error) {
		s.jobs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (j jobRow, err error) {
			return j, row.Scan(&j.kind, &j.key, &j.charge, &j.amount)
		})
		return err
	})
}

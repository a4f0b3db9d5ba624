package jobs

import (
	"encoding/json"
	"fmt"

	"github.com/rocketrides/rocketrides/internal/phases"
)

// A Job is work that a phase defers until its transaction has committed. A
// type of this package is a kind of job, in one version.
//
// A change of a type that a worker of the release before can't read is a new
// type with a higher version; the old type stays for as long as such jobs may
// be staged or undelivered.
type Job interface {
	// kind is staged_jobs.kind, and the name of the queue in River.
	kind() string
	// version is staged_jobs.version, counted from 1.
	version() int
}

// Stage queues the insertion of a job on the transaction of a phase. A key
// causes at most one job of a kind: a second one fails the transaction.
func Stage(tx *phases.Tx, key phases.Key, job Job) error {
	sql, args, err := Statement(key, job)
	if err == nil {
		tx.Queue(sql, args...)
	}
	return err
}

// Statement returns the statement with which Stage inserts a job, for a
// transaction that is no phase. Then key need not exist: it gives the account,
// the trace, and the name that makes the job one of its kind.
func Statement(key phases.Key, job Job) (sql string, args []any, err error) {
	encoded, err := json.Marshal(job)
	if err != nil {
		return "", nil, fmt.Errorf("encoding %s: %w", job.kind(), err)
	}
	return `
		INSERT INTO staged_jobs (account_id, id, key, kind, version, args, trace)
		VALUES ($1, $2, $3, $4, $5, $6, nullif($7, ''))`,
		[]any{key.Account, jobID(job.kind(), key), key.Key, job.kind(), job.version(), string(encoded), key.Trace}, nil
}

// jobID returns the id of a job. It is a pure function of kind and key, so that
// a transaction that runs again stages the same job.
func jobID(kind string, key phases.Key) string {
	return phases.DerivedID("job_", kind, key.Account, key.Key)
}

// A Receipt tells the account by e-mail how a ride ended.
type Receipt struct {
	// Event is how the ride ended. Receipts of the release before have none;
	// their rides are charged.
	Event    Event  `json:"event,omitempty"`
	RideID   string `json:"ride_id"`
	ChargeID string `json:"charge_id,omitempty"`
	Amount   int64  `json:"amount"` // the fare, in the smallest unit of Currency
	Currency string `json:"currency"`
}

// An Event is how a ride ended.
type Event string

// The events that receipts tell of.
const (
	EventCharged  Event = "charged"
	EventDeclined Event = "declined"
	EventCanceled Event = "canceled"
)

func (Receipt) kind() string { return "receipt" }
func (Receipt) version() int { return 1 }

// A Callback tells the account's own server about a ride, in the form of
// Standard Webhooks.
type Callback struct {
	Type   string `json:"type"` // "ride.charged" and the like
	RideID string `json:"ride_id"`
	URL    string `json:"url"`
	// Ride is the ride as it was then, in JSON. It is a string, because the
	// column's type jsonb would change the order of its members.
	Ride string `json:"ride"`
}

func (Callback) kind() string { return "callback" }
func (Callback) version() int { return 1 }

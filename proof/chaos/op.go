package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// An op is one request of a client, and its answer.
type op struct {
	Client  int    `json:"client"`
	N       int    `json:"n"`
	Account string `json:"account"`
	Key     string `json:"key"`
	// Look is set for a GET of the key's ride, and Cancel is the id of the ride
	// that the op cancels. All other ops hail a ride.
	Look   bool   `json:"look,omitempty"`
	Cancel string `json:"cancel,omitempty"`
	// Variant is which of the requests under the key this is. Each variant has
	// other parameters.
	Variant variant `json:"variant,omitempty"`
	Async   bool    `json:"async,omitempty"`
	// Wait is how many seconds the client prefers to wait for an answer that
	// will not change.
	Wait int `json:"wait,omitempty"`
	// Ride is the id of the ride of a GET that waits.
	Ride string `json:"ride,omitempty"`
	Via  string `json:"via"`
	Sent string `json:"sent,omitempty"`

	// Call and Return are nanoseconds since the start of the run, by one clock
	// for all clients. At is the wall-clock time of the call.
	Call   int64     `json:"call"`
	Return int64     `json:"return,omitempty"`
	At     time.Time `json:"at"`

	answer
}

// An answer is what a client got. A status of 0 means no answer.
type answer struct {
	Status int    `json:"status,omitempty"`
	Code   string `json:"code,omitempty"` // of a problem
	// Retryable is what a problem says of itself.
	Retryable bool   `json:"retryable,omitempty"`
	Body      string `json:"body,omitempty"`
	Err       string `json:"err,omitempty"`
}

// A variant is one of the requests that a client sends under a key.
type variant int

const (
	asked   variant = iota // the request that the key is for
	changed                // other valid parameters: a client's mistake
	invalid                // invalid parameters
)

func (o *op) id() rideKey { return rideKey{o.Account, o.Key} }

// wall returns the wall-clock time of the answer.
func (o *op) wall() time.Time { return o.At.Add(time.Duration(o.Return - o.Call)) }

// A rideKey is an account and an idempotency key.
type rideKey struct{ account, key string }

func (k rideKey) String() string { return k.account + " " + k.key }

// A journal is the append-only history of one client: a line before each
// request leaves, and one when it has ended. It is safe for concurrent use.
type journal struct {
	start  time.Time
	client int

	mu   sync.Mutex
	file *os.File
	ops  []*op
	err  error
}

func newJournal(dir string, client int, start time.Time) (*journal, error) {
	file, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("client-%03d.jsonl", client)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &journal{start: start, client: client, file: file}, err
}

// begin notes that a request is about to leave.
func (j *journal) begin(o *op) {
	j.mu.Lock()
	defer j.mu.Unlock()
	o.Client, o.N = j.client, len(j.ops)
	o.At = time.Now()
	o.Call = int64(o.At.Sub(j.start))
	j.ops = append(j.ops, o)
	j.write("invoke", o)
}

// end notes the answer to a request.
func (j *journal) end(o *op, a answer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	o.answer = a
	o.Return = int64(time.Since(j.start))
	j.write("return", o)
}

// write writes a line, and keeps the first error.
func (j *journal) write(what string, o *op) {
	line, err := json.Marshal(struct {
		What string `json:"what"`
		*op
	}{what, o})
	if err == nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	if j.err == nil {
		j.err = err
	}
}

// close closes the file and returns the history.
func (j *journal) close() ([]*op, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.file.Close(); j.err == nil {
		j.err = err
	}
	if j.err != nil {
		return nil, fmt.Errorf("writing the history of client %d: %w", j.client, j.err)
	}
	return j.ops, nil
}

// byKey groups a history by key.
func byKey(ops []*op) map[rideKey][]*op {
	keys := map[rideKey][]*op{}
	for _, o := range ops {
		keys[o.id()] = append(keys[o.id()], o)
	}
	return keys
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// An op is one request of a client's, and what it got.
type op struct {
	Client  int    `json:"client"`
	N       int    `json:"n"`
	Account string `json:"account"`
	Key     string `json:"key"`
	// Look is a GET of the key's ride; everything else hails it.
	Look bool `json:"look,omitempty"`
	// Variant tells requests under one key apart: each has other parameters.
	Variant variant `json:"variant,omitempty"`
	Async   bool    `json:"async,omitempty"`
	Via     string  `json:"via"`
	Sent    string  `json:"sent,omitempty"`

	// Call and Return are nanoseconds since the start of the run, by one clock
	// for all clients; At is the call by the wall's.
	Call   int64     `json:"call"`
	Return int64     `json:"return,omitempty"`
	At     time.Time `json:"at"`

	answer
}

// An answer is what a client saw. Without a status there was none.
type answer struct {
	Status int    `json:"status,omitempty"`
	Code   string `json:"code,omitempty"` // of a problem
	Body   string `json:"body,omitempty"`
	Err    string `json:"err,omitempty"`
}

// A variant is one of the requests that a client sends under a key.
type variant int

const (
	asked   variant = iota // what the key is for
	changed                // other parameters: a client's mistake
	invalid                // parameters that no ride can have
)

func (o *op) id() rideKey { return rideKey{o.Account, o.Key} }

// wall is the time of the answer by the wall's clock.
func (o *op) wall() time.Time { return o.At.Add(time.Duration(o.Return - o.Call)) }

// A rideKey names a request for ever.
type rideKey struct{ account, key string }

func (k rideKey) String() string { return k.account + " " + k.key }

// A journal is the append-only history of one client: a line before each
// request leaves, and one when it is over. It is safe for concurrent use.
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

// invoke notes that a request is about to leave.
func (j *journal) invoke(o *op) {
	j.mu.Lock()
	defer j.mu.Unlock()
	o.Client, o.N = j.client, len(j.ops)
	o.At = time.Now()
	o.Call = int64(o.At.Sub(j.start))
	j.ops = append(j.ops, o)
	j.write("invoke", o)
}

// back notes what came of it.
func (j *journal) back(o *op, a answer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	o.answer = a
	o.Return = int64(time.Since(j.start))
	j.write("return", o)
}

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

// close returns the history.
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

// byKey sorts a history into those of the keys.
func byKey(ops []*op) map[rideKey][]*op {
	keys := map[rideKey][]*op{}
	for _, o := range ops {
		keys[o.id()] = append(keys[o.id()], o)
	}
	return keys
}

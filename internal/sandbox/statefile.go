package sandbox

import (
	"os"
	"sync"
)

// state is the content of DIR/sandbox.json.
type state struct {
	APIURL            string    `json:"api_url"`
	AdminURL          string    `json:"admin_url"`
	CompleterAdminURL string    `json:"completer_admin_url"`
	StripeURL         string    `json:"stripe_url"`
	DatabaseURL       string    `json:"database_url"`
	InboxURL          string    `json:"inbox_url"`
	SMTPURL           string    `json:"smtp_url"`
	CallbacksURL      string    `json:"callbacks_url"`
	PIDs              pids      `json:"pids"`
	Accounts          []account `json:"accounts"`
}

// pids are the ids of the processes that a test may want to kill.
type pids struct {
	Sandbox   int `json:"sandbox"`
	API       int `json:"api"`
	Completer int `json:"completer"`
	// Postgres is missing if the sandbox uses the server of DATABASE_URL.
	Postgres int `json:"postgres,omitempty"`
}

// stateFileName is the file's name in the folder of the sandbox.
const stateFileName = "sandbox.json"

// A stateFile is DIR/sandbox.json. The file exists while everything is ready,
// and names the processes that run at the moment. It is safe for concurrent
// use.
type stateFile struct {
	path string

	mu      sync.Mutex
	state   state
	written bool
}

// setPID sets the id of the process that was just started.
func (f *stateFile) setPID(name string, pid int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch name {
	case "api":
		f.state.PIDs.API = pid
	case "completer":
		f.state.PIDs.Completer = pid
	case postgresName:
		f.state.PIDs.Postgres = pid
	}
	if !f.written {
		return nil
	}
	return writeJSON(f.path, f.state)
}

// write writes the file, with the process ids that were set so far.
func (f *stateFile) write(s state) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.PIDs = f.state.PIDs
	s.PIDs.Sandbox = os.Getpid()
	f.state, f.written = s, true
	return writeJSON(f.path, f.state)
}

// remove removes the file, if it exists. After that setPID writes no file.
func (f *stateFile) remove() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written = false
	_ = os.Remove(f.path)
}

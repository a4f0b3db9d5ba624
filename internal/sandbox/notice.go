package sandbox

import (
	"os"
	"sync"
)

// state is what DIR/sandbox.json tells programs.
type state struct {
	APIURL            string    `json:"api_url"`
	AdminURL          string    `json:"admin_url"`
	CompleterAdminURL string    `json:"completer_admin_url"`
	StripeURL         string    `json:"stripe_url"`
	DatabaseURL       string    `json:"database_url"`
	PIDs              pids      `json:"pids"`
	Accounts          []account `json:"accounts"`
}

// pids are the processes that a test may want to kill.
type pids struct {
	Sandbox   int `json:"sandbox"`
	API       int `json:"api"`
	Completer int `json:"completer"`
	// Postgres is left out when it is somebody else's.
	Postgres int `json:"postgres,omitempty"`
}

// A notice is DIR/sandbox.json: it is there while all is ready, and its process
// ids are those of the moment. It is safe for concurrent use.
type notice struct {
	path string

	mu     sync.Mutex
	state  state
	posted bool
}

// setPID notes the process that has just been started under a name.
func (n *notice) setPID(name string, pid int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch name {
	case "api":
		n.state.PIDs.API = pid
	case "completer":
		n.state.PIDs.Completer = pid
	case "postgres":
		n.state.PIDs.Postgres = pid
	}
	if !n.posted {
		return nil
	}
	return writeJSON(n.path, n.state)
}

// publish writes the file, with the processes noted so far.
func (n *notice) publish(s state) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	s.PIDs = n.state.PIDs
	s.PIDs.Sandbox = os.Getpid()
	n.state, n.posted = s, true
	return writeJSON(n.path, n.state)
}

// withdraw removes the file, if there is one, for good.
func (n *notice) withdraw() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.posted = false
	_ = os.Remove(n.path)
}

package limit

import "sync"

// Places are places of which no client gets more than are left for others, so
// that one client alone never fills them. It is safe for concurrent use.
//
// Of 64 places a first client gets 33 at most, a second one 16 of the other 31,
// and so on: there is a place for a new client until half a dozen take all they
// can get.
type Places struct {
	mu      sync.Mutex
	free    int
	clients map[string]int
}

// NewPlaces returns n free places.
func NewPlaces(n int) *Places { return &Places{free: n, clients: map[string]int{}} }

// Take takes a place for a client, who then gives it back. It reports false if
// no place is free, or if the client has more than are free.
func (p *Places) Take(client string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free == 0 || p.clients[client] > p.free {
		return false
	}
	p.free--
	p.clients[client]++
	return true
}

// Give gives a place back.
func (p *Places) Give(client string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free++
	p.clients[client]--
	if p.clients[client] == 0 {
		delete(p.clients, client)
	}
}

// Free returns how many places are free.
func (p *Places) Free() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.free
}

// Full returns the clients to whom Take would give no place.
func (p *Places) Full() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var full []string
	for client, has := range p.clients {
		if p.free == 0 || has > p.free {
			full = append(full, client)
		}
	}
	return full
}

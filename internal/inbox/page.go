package inbox

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"net/http"
	"strings"
)

//go:embed page.html
var pageSource string

//nolint:gochecknoglobals // parsed once, and nothing writes to it
var page = template.Must(template.New("page").Parse(pageSource))

// ServeHTTP shows the messages, the newest first: a browser gets a page, every
// other client JSON.
func (i *Inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the inbox can only be read", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Vary", "Accept")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		// A message may contain anything: it is shown without scripts, and
		// loads nothing.
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = page.Execute(w, i.Messages()) // it fails if the reader has gone away
		return
	}
	w.Header().Set("Content-Type", "application/json")
	body, err := json.Marshal(i.Messages())
	if err != nil { // strings can always be encoded
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(append(body, '\n'))
}

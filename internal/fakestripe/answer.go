package fakestripe

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// answer is what leaves for a request, before a fault spoils its way out.
type answer struct {
	status     int
	body       []byte
	html       bool
	retry      string        // Stripe-Should-Retry
	retryAfter time.Duration // Retry-After
	saved      bool          // under the key
	replayed   bool
	original   string // the id of the request that is replayed
	drop       bool   // close the connection instead
}

// answer returns the error in Stripe's form.
func (e *apiError) answer() answer {
	body, err := json.Marshal(struct {
		Error *failure `json:"error"`
	}{&e.failure})
	if err != nil {
		panic(err) // there is nothing in a failure that JSON cannot hold
	}
	return answer{status: e.status, body: body, retry: e.retry, retryAfter: e.retryAfter}
}

// testKey is what Stripe's secret test keys look like.
var testKey = regexp.MustCompile(`^sk_test_[A-Za-z0-9_]+$`)

// The ids of the two Stripe accounts. The other one is empty, and stays so.
const (
	ownAccount   = "acct_fake"
	otherAccount = "acct_other"
)

// accountOf returns the id of the account that an API key belongs to.
func accountOf(key string) string {
	if strings.HasPrefix(key, "sk_test_other") {
		return otherAccount
	}
	return ownAccount
}

func readAccount(t *tx) (any, error) {
	return account{
		ID: t.account, Object: "account", ChargesEnabled: true, Country: "US", DefaultCurrency: "usd",
		DetailsSubmitted: true, PayoutsEnabled: true, Type: "standard",
	}, nil
}

// authenticate checks the API key. Test keys open one of the two accounts; a
// live key never does, so that no live key is ever used against a fake without
// anybody noticing.
func authenticate(h http.Header) *apiError {
	key := apiKey(h.Get("Authorization"))
	switch {
	case key == "":
		return refuse(http.StatusUnauthorized, typeInvalid, "",
			"You did not provide an API key. You need to provide your API key in the Authorization header, "+
				"using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). "+
				"See https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.")
	case strings.HasPrefix(key, "sk_live_"):
		return refuse(http.StatusUnauthorized, typeInvalid, "", "Invalid API Key provided: sk_live_***. The fake takes only test keys.")
	case !testKey.MatchString(key):
		return refuse(http.StatusUnauthorized, typeInvalid, "", "Invalid API Key provided: ***. A test key begins with sk_test_.")
	}
	return nil
}

// apiKey returns the key of an Authorization header: a bearer token, or the
// user of basic authentication with no password.
func apiKey(header string) string {
	scheme, value, _ := strings.Cut(header, " ")
	switch strings.ToLower(scheme) {
	case "bearer":
		return value
	case "basic":
		decoded, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(decoded), ":")
	default:
		return ""
	}
}

// writeHeader sets the headers that every answer has.
func (a answer) writeHeader(h http.Header, c *call) {
	h.Set("Content-Type", "application/json")
	if a.html {
		h.Set("Content-Type", "text/html")
	}
	h.Set("Request-Id", c.send.RequestID)
	h.Set("Stripe-Version", apiVersion)
	if c.send.Method == http.MethodPost && c.send.Key != "" {
		h.Set("Idempotency-Key", c.send.Key)
	}
	if a.replayed {
		h.Set("Idempotent-Replayed", "true")
		h.Set("Original-Request", a.original)
	}
	if a.retry != "" {
		h.Set("Stripe-Should-Retry", a.retry)
	}
	if a.retryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(whole(a.retryAfter), 10))
	}
	if a.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="Stripe"`)
	}
}

// deliver sends an answer, or as much of it as the faults leave.
func (s *Server) deliver(w http.ResponseWriter, c *call, a answer) {
	if a.drop || c.plan.Kind == DropAfter {
		panic(http.ErrAbortHandler)
	}
	if c.plan.Kind == Empty200 && (a.status == http.StatusOK || a.saved || a.replayed) {
		a.status, a.body = http.StatusOK, []byte("{}")
	}
	a.writeHeader(w.Header(), c)
	w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	switch c.plan.Kind {
	case Truncated200:
		_, _ = w.Write(a.body[:len(a.body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case SlowDrip:
		s.drip(w, a.body, &c.plan)
	default:
		_, _ = w.Write(a.body)
	}
}

// drips is how many pieces a slow answer comes in.
const drips = 20

// drip writes a body piece by piece. Once the client has gone, it gives up.
func (s *Server) drip(w http.ResponseWriter, body []byte, p *plan) {
	for i := range drips {
		piece := body[len(body)*i/drips : len(body)*(i+1)/drips]
		if _, err := w.Write(piece); err != nil {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		if err := s.sleep(p.Over/drips, p.after.cleared); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

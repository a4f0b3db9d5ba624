package client

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// tolerance is how old a callback may be, and how far in the future, so
	// that one that somebody has recorded can't be used for long. It is that of
	// Standard Webhooks.
	tolerance = 5 * time.Minute
	// maxCallback is the most that a callback may have, in bytes. The API sends
	// less than 20 kB.
	maxCallback = 64 << 10
	// minSecret is the least number of bytes in a secret. Anybody can sign with
	// an empty one.
	minSecret = 24
)

// The types of callbacks. A later version of the API may add others: receivers
// acknowledge and ignore those that they don't know.
const (
	CallbackCharged      = "ride.charged"
	CallbackDeclined     = "ride.declined"
	CallbackCanceled     = "ride.canceled"
	CallbackRefundFailed = "ride.refund_failed" // that of a canceled ride, or of a declined one that was paid late
)

// A Callback tells how a ride has ended.
type Callback struct {
	// ID stays the same however often the callback is sent. A receiver that
	// must act once keeps the ids that it has seen.
	ID   string
	Type string
	// Timestamp is when it happened.
	Timestamp time.Time
	// Ride is the ride as it was then. Callbacks may overtake each other: what
	// is true now says [Client.Get].
	Ride Ride
}

// ErrCallback means that a callback must not be believed: its signature is not
// that of any secret, or it is too old. Answer it with 400.
var ErrCallback = errors.New("the callback can't be verified")

// ReadCallback reads the request that a callback is, at most 64 KiB of it, and
// verifies it as [VerifyCallback] does. The receiver answers 2xx within 15
// seconds; otherwise the callback is sent again, for three days.
func ReadCallback(r *http.Request, secrets ...string) (Callback, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxCallback+1))
	if err != nil {
		return Callback{}, fmt.Errorf("reading the callback: %w", err)
	}
	if len(body) > maxCallback {
		return Callback{}, fmt.Errorf("%w: it has more than %d bytes", ErrCallback, maxCallback)
	}
	return VerifyCallback(r.Header, body, secrets...)
}

// VerifyCallback verifies a callback by its headers and the bytes of its body,
// in the form of Standard Webhooks 1.0.0, and decodes it. secrets are those of
// the account, whsec_…: one, or several while one is rotated. The time that the
// callback was sent must be within five minutes of now. Every error about the
// signature wraps [ErrCallback], and none shows a secret.
func VerifyCallback(header http.Header, body []byte, secrets ...string) (Callback, error) {
	id, at, signatures := header.Get("webhook-id"), header.Get("webhook-timestamp"), strings.Fields(header.Get("webhook-signature"))
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || id == "" || strings.Contains(id, ".") || len(signatures) == 0 {
		return Callback{}, fmt.Errorf("%w: webhook-id, webhook-timestamp or webhook-signature is missing or malformed", ErrCallback)
	}
	if age := time.Since(time.Unix(seconds, 0)); age > tolerance || age < -tolerance {
		return Callback{}, fmt.Errorf("%w: it was sent %s ago by this machine's clock", ErrCallback, age.Round(time.Second))
	}
	known, err := signedWith(id+"."+at+"."+string(body), signatures, secrets)
	if err != nil {
		return Callback{}, err
	}
	if !known {
		return Callback{}, fmt.Errorf("%w: no secret has made its signature", ErrCallback)
	}
	var content struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Data      Ride      `json:"data"`
	}
	if err := json.Unmarshal(body, &content); err != nil {
		return Callback{}, fmt.Errorf("reading the callback: %w", err)
	}
	return Callback{ID: id, Type: content.Type, Timestamp: content.Timestamp, Ride: content.Data}, nil
}

// signedWith reports whether one of the signatures was made with one of the
// secrets. How long it takes does not depend on how much of a signature is
// right.
func signedWith(content string, signatures, secrets []string) (bool, error) {
	if len(secrets) == 0 {
		return false, errors.New("there is no secret to verify a callback with")
	}
	known := false
	for _, secret := range secrets {
		encoded, ok := strings.CutPrefix(secret, "whsec_")
		key, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(key) < minSecret {
			return false, fmt.Errorf("a secret for callbacks is not whsec_ and the base64 of at least %d bytes", minSecret)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(content))
		want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		for _, signature := range signatures {
			if hmac.Equal([]byte(signature), []byte(want)) {
				known = true
			}
		}
	}
	return known, nil
}

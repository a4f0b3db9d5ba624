package fakestripe

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
)

// maxKey is the length of the longest idempotency key, in bytes.
const maxKey = 255

// params returns a hash of the parameters. Equal parameters have equal hashes.
func (c *call) params() string {
	hash := sha256.Sum256([]byte(canonical(c.fields)))
	return hex.EncodeToString(hash[:16])
}

// recall returns the answer that the key of a request decides, and reports
// whether it decides: the saved answer, or the error that the key is in use or
// was first used for another request. The caller holds the lock.
func (s *Server) recall(c *call) (answer, bool) {
	if s.running[c.send.Key] != nil {
		return keyInUse(c.send.Key).answer(), true
	}
	first := s.state.saved[c.send.Key]
	switch {
	case first == nil:
		return answer{}, false
	case first.Path != c.send.Path || first.Params != c.params():
		return keyReused(c.send.Key, first.Path, c.send.Path).answer(), true
	default:
		return answer{
			status: first.Status, body: first.Body, replayed: true, original: first.RequestID,
			retry: retryOf(first.Status),
		}, true
	}
}

// retryOf returns the Stripe-Should-Retry header of a saved answer.
func retryOf(status int) string {
	if status == http.StatusPaymentRequired {
		return "false"
	}
	return ""
}

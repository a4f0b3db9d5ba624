package callbacks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// minSecret is the least number of bytes in a secret that Standard Webhooks
// allows.
const minSecret = 24

// sign returns the header webhook-signature of Standard Webhooks 1.0.0: one
// HMAC-SHA256 for each secret, separated by blanks. A receiver accepts the
// message if it knows one of the secrets, so two of them overlap while it
// changes from one to the other. There must be at least one, and the id must
// have no full stop.
func sign(id string, at time.Time, body []byte, secrets []string) (string, error) {
	if len(secrets) == 0 {
		return "", errors.New("there is no secret to sign a callback with")
	}
	if strings.Contains(id, ".") {
		return "", fmt.Errorf("the id %q of a callback has a full stop", id)
	}
	signatures := make([]string, 0, len(secrets))
	for _, secret := range secrets {
		key, err := decodeSecret(secret)
		if err != nil {
			return "", err
		}
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s.%s.%s", id, timestamp(at), body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(signatures, " "), nil
}

// decodeSecret returns the bytes of a secret in the form whsec_<base64>. Its
// errors don't show the secret.
func decodeSecret(secret string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(secret, "whsec_")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < minSecret {
		return nil, fmt.Errorf("a secret for callbacks is not whsec_ and the base64 of at least %d bytes", minSecret)
	}
	return key, nil
}

// timestamp is the form of the header webhook-timestamp: seconds since 1970.
func timestamp(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }

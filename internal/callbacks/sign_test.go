package callbacks

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"
)

// aSecret is that of the published test vectors.
const aSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// The test vector is that of the reference libraries, in every language.
func TestSignatureIsThePublishedOne(t *testing.T) {
	t.Parallel()
	at := time.Unix(1614265330, 999)
	got, err := sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at, []byte(`{"test": 2432232314}`), []string{aSecret})
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; err != nil || got != want {
		t.Errorf("%q (%v), want %q", got, err, want)
	}
}

// The reference library accepts what we sign, with each of the secrets that are
// valid at the time, and nothing else.
func TestReferenceLibraryAcceptsSignatures(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secrets := make([]string, rapid.IntRange(1, 3).Draw(t, "secrets"))
		for i := range secrets {
			key := rapid.SliceOfN(rapid.Byte(), minSecret, 64).Draw(t, "secret")
			secrets[i] = "whsec_" + base64.StdEncoding.EncodeToString(append(key, byte(i)))
		}
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		id := "msg_" + rapid.StringMatching(`[0-9a-z]{26}`).Draw(t, "id")
		now := time.Now()
		signature, err := sign(id, now, body, secrets)
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{}
		header.Set(standardwebhooks.HeaderWebhookID, id)
		header.Set(standardwebhooks.HeaderWebhookTimestamp, timestamp(now))
		header.Set(standardwebhooks.HeaderWebhookSignature, signature)
		for _, secret := range secrets {
			if err := verify(secret, body, header); err != nil {
				t.Errorf("with %s: %v", secret, err)
			}
		}
		if verify(aSecret, body, header) == nil || verify(secrets[0], append(body, 'x'), header) == nil {
			t.Error("another secret, or another body, is accepted as well")
		}
	})
}

func verify(secret string, body []byte, header http.Header) error {
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return webhook.Verify(body, header)
}

// A signature that anybody can make is never sent.
func TestSignNeedsARealSecret(t *testing.T) {
	t.Parallel()
	short := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, minSecret-1))
	for _, secrets := range [][]string{nil, {""}, {"whsec_"}, {aSecret, ""}, {strings.TrimPrefix(aSecret, "whsec_")}, {"whsec_!"}, {short}} {
		signature, err := sign("msg_1", time.Now(), nil, secrets)
		if err == nil {
			t.Errorf("%q: signs %q", secrets, signature)
		} else if len(secrets) > 0 && len(secrets[0]) > 6 && strings.Contains(err.Error(), secrets[0][6:]) {
			t.Errorf("the error %q shows the secret", err)
		}
	}
	if _, err := sign("msg.1", time.Now(), nil, []string{aSecret}); err == nil {
		t.Error("an id with a full stop is signed: the parts of what is signed could be exchanged")
	}
}

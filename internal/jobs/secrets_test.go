package jobs

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/rocketrides/internal/accounts"
)

// Callbacks of two accounts to one receiver are signed with the secret of their
// own account, and with no other: who knows one secret can make nothing that
// seems to be the other account's.
func TestCallbacksAreSignedByTheirAccount(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	secrets := map[string]string{}
	for i, account := range []string{"acct_1", "acct_2", "acct_3"} {
		secrets["/"+account] = "whsec_" + base64.StdEncoding.EncodeToString(slices.Repeat([]byte{byte(i + 1)}, 32))
		b.stageCallbacks(t, account, "k", r.URL+"/"+account, 3)
		b.exec(t, `UPDATE accounts SET callback_secret = $2 WHERE id = $1`, account, secrets["/"+account])
	}
	once(t, b.callbackClient(t))
	for _, got := range r.check(t, 9) {
		for path, secret := range secrets {
			if err := got.verify(secret); (err == nil) != (path == got.path) {
				t.Errorf("a callback to %s, with the secret of %s: %v", got.path, path, err)
			}
		}
	}
}

// A secret that was rotated signs beside the present one until its time is
// over, so that a receiver may change from one to the other in between.
func TestFormerSecretsSignForADay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := newReceiver(t, nil)
	b.addAccount(t, "acct_1")
	secrets := []string{aSecret}
	for range 2 {
		secret, _, err := accounts.Store{Pool: b.pool}.RotateCallbackSecret(t.Context(), "acct_1", 24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, secret)
	}
	send := func(prefix string) received {
		b.stageCallbacks(t, "acct_1", prefix, r.URL, 1)
		once(t, b.callbackClient(t))
		got := r.requests()
		return got[len(got)-1]
	}
	got := send("during")
	for i, secret := range secrets {
		if err := got.verify(secret); err != nil {
			t.Errorf("with secret %d during the overlap: %v", i, err)
		}
	}
	b.exec(t, `UPDATE accounts SET former_callback_secrets_until[2] = now()`)
	got = send("after")
	for i, secret := range secrets {
		if err := got.verify(secret); (err == nil) != (i > 0) {
			t.Errorf("with secret %d after the overlap of the first: %v", i, err)
		}
	}
	if n := strings.Count(got.header.Get("webhook-signature"), "v1,"); n != 2 {
		t.Errorf("%d signatures are sent", n)
	}
}

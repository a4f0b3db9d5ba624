package accounts

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
)

func TestNewAPIKeyIsReadBack(t *testing.T) {
	t.Parallel()
	for mode, live := range map[string]bool{"test": false, "live": true} {
		t.Run("a "+mode+" key", func(t *testing.T) {
			t.Parallel()
			account := NewAccountID()
			key := NewAPIKey(account, live)
			text := key.Reveal()
			if !regexp.MustCompile(`^rr_` + mode + `_[0-9A-Za-z]{54}$`).MatchString(text) {
				t.Fatalf("a %s key looks like %s", mode, text)
			}
			read, err := ParseAPIKey(text)
			if err != nil {
				t.Fatal(err)
			}
			if read.Reveal() != text || read.AccountID() != account || read.Live() != live {
				t.Errorf("read %s of %s, live %t", read.Reveal(), read.AccountID(), read.Live())
			}
			if read.Hash() != sha256.Sum256([]byte(text)) || key.Hash() != read.Hash() {
				t.Error("the hash is not the SHA-256 of the whole key")
			}
			if want := "rr_" + mode + "_…" + text[len(text)-4:]; read.Hint() != want {
				t.Errorf("hint %s, want %s", read.Hint(), want)
			}
		})
	}
}

// TestAPIKeyFormatIsStable reads a fixed key, whose checksum another program
// computed: keys that were issued must stay valid.
func TestAPIKeyFormatIsStable(t *testing.T) {
	t.Parallel()
	const text = "rr_test_" + "0123456789ABCDEF" + "abcdefghijklmnopqrstuvwxyz012345" + "4ITlM3"
	key, err := ParseAPIKey(text)
	if err != nil || key.AccountID() != "acct_0123456789ABCDEF" {
		t.Errorf("account %q, error %v", key.AccountID(), err)
	}
}

func TestNewAPIKeyPanicsWithoutAnAccount(t *testing.T) {
	t.Parallel()
	for _, account := range []string{"", "acct_", "0123456789ABCDEF", "acct_0123456789ABCDE", "acct_0123456789ABCDEFG", "acct_0123456789ABCDE-"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a key was made for %q", account)
				}
			}()
			NewAPIKey(account, false)
		}()
	}
}

func TestParseAPIKeyRefusesEveryOtherText(t *testing.T) {
	t.Parallel()
	text := NewAPIKey(NewAccountID(), false).Reveal()
	for name, wrong := range map[string]string{
		"nothing":               "",
		"a prefix only":         "rr_test_",
		"too short":             text[:len(text)-1],
		"too long":              text + "0",
		"the other mode":        strings.Replace(text, "rr_test_", "rr_live_", 1),
		"another prefix":        resum(strings.Replace(text, "rr_test_", "rr_prod_", 1)),
		"a capital prefix":      resum(strings.Replace(text, "rr_test_", "RR_TEST_", 1)),
		"blanks around":         " " + text[1:],
		"a key of Stripe's":     "sk_test_" + text[8:],
		"a hyphen inside":       resum(text[:20] + "-" + text[21:]),
		"NUL inside":            resum(text[:20] + "\x00" + text[21:]),
		"UTF-8 inside":          resum(text[:20] + "é" + text[22:]),
		"no checksum":           text[:len(text)-6] + "000000",
		"the account of others": NewAPIKey(NewAccountID(), false).Reveal()[:24] + text[24:],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := ParseAPIKey(wrong)
			if !errors.Is(err, errAPIKeyInvalid) || key.Reveal() != "" {
				t.Errorf("%q: error %v", wrong, err)
			}
		})
	}
}

// TestParseAPIKeyNoticesEveryTypingError changes each character to each other
// one, and swaps each neighbouring pair.
func TestParseAPIKeyNoticesEveryTypingError(t *testing.T) {
	t.Parallel()
	text := NewAPIKey(NewAccountID(), true).Reveal()
	for i := range len(text) {
		for _, char := range []byte(base62 + "_") {
			wrong := text[:i] + string(char) + text[i+1:]
			if _, err := ParseAPIKey(wrong); wrong != text && err == nil {
				t.Errorf("%s was taken for %s", wrong, text)
			}
		}
		if i == 0 {
			continue
		}
		wrong := text[:i-1] + string(text[i]) + string(text[i-1]) + text[i+1:]
		if _, err := ParseAPIKey(wrong); wrong != text && err == nil {
			t.Errorf("%s was taken for %s", wrong, text)
		}
	}
}

func TestBearerKey(t *testing.T) {
	t.Parallel()
	text := NewAPIKey(NewAccountID(), false).Reveal()
	for header, want := range map[string]error{
		"Bearer " + text:              nil,
		"bearer " + text:              nil,
		"BEARER   " + text + " ":      nil,
		"":                            errAPIKeyMissing,
		"Basic " + text:               errAPIKeyMissing,
		text:                          errAPIKeyMissing,
		"Bearer" + text:               errAPIKeyMissing,
		"Bearer":                      errAPIKeyInvalid,
		"Bearer ":                     errAPIKeyInvalid,
		"Bearer\t" + text:             errAPIKeyMissing,
		"Bearer " + text + " " + text: errAPIKeyInvalid,
		"Bearer " + text + "," + text: errAPIKeyInvalid,
		"Bearer nonsense":             errAPIKeyInvalid,
	} {
		key, err := BearerKey(header)
		if !errors.Is(err, want) {
			t.Errorf("%q: error %v, want %v", header, err, want)
		}
		if want == nil && key.Reveal() != text {
			t.Errorf("%q: key %s", header, key.Reveal())
		}
	}
}

func TestAPIKeyIsNeverPrinted(t *testing.T) {
	t.Parallel()
	key := NewAPIKey(NewAccountID(), false)
	type exported struct{ Key APIKey }
	type hidden struct{ key APIKey }
	verbs := []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "% x"}
	for _, verb := range verbs {
		if got := fmt.Sprintf(verb, key); got != key.Hint() {
			t.Errorf("%s prints %s", verb, got)
		}
	}
	var out bytes.Buffer
	for _, value := range []any{
		key, &key,
		exported{key},
		&exported{key},
		hidden{key},
		&hidden{key},
		[]APIKey{key},
		[]hidden{{key}},
		map[string]APIKey{"k": key},
		map[string]hidden{"k": {key}},
		struct{ any }{hidden{key}},
	} {
		for _, verb := range verbs {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		text := slog.New(slog.NewTextHandler(&out, nil))
		text.InfoContext(t.Context(), "text", slog.Any("value", value))
		lines := slog.New(slog.NewJSONHandler(&out, nil))
		lines.InfoContext(t.Context(), "json", slog.Any("value", value))
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(encoded)
	}
	fmt.Fprintln(&out, key.String(), key.LogValue(), fmt.Errorf("with %v", key))
	printed := out.String()
	secret := key.Reveal()[24 : len(key.Reveal())-6]
	for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("% x", secret)} {
		for i := range len(form) - 12 { // shorter ones may stand in a time
			if strings.Contains(printed, form[i:i+12]) {
				t.Fatalf("a part of the secret was printed:\n%s", printed)
			}
		}
	}
	if !strings.Contains(printed, key.Hint()) {
		t.Error("the hint was not printed either")
	}
}

func TestTheZeroAPIKeyIsNoKey(t *testing.T) {
	t.Parallel()
	var key APIKey
	if key.Reveal() != "" || key.AccountID() != "" || key.Hint() != "" || key.Live() || fmt.Sprint(key) != "" {
		t.Errorf("the zero key is of %q, live %t, prints %v", key.AccountID(), key.Live(), key)
	}
}

func TestNewIDsAndSecrets(t *testing.T) {
	t.Parallel()
	for form, draw := range map[string]func() string{
		`^acct_[0-9A-Za-z]{16}$`:       NewAccountID,
		`^key_[0-9A-Za-z]{16}$`:        newAPIKeyID,
		`^whsec_[0-9A-Za-z+/]{43}=$`:   newCallbackSecret,
		`^rr_test_[0-9A-Za-z]{16}\w+$`: func() string { return NewAPIKey("acct_0123456789ABCDEF", false).Reveal() },
	} {
		seen := map[string]bool{}
		for range 1000 {
			text := draw()
			if !regexp.MustCompile(form).MatchString(text) || seen[text] {
				t.Errorf("%s: got %s, seen before %t", form, text, seen[text])
			}
			seen[text] = true
		}
	}
	secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(newCallbackSecret(), "whsec_"))
	if err != nil || len(secret) != 32 {
		t.Errorf("a callback secret has %d bytes, error %v", len(secret), err)
	}
}

// TestRandomBase62IsUnbiased fails if eight characters are 25 % more frequent
// than the others, as a plain remainder would make them. Its bounds are more
// than six standard deviations away.
func TestRandomBase62IsUnbiased(t *testing.T) {
	t.Parallel()
	const each = 4000
	counts := map[rune]int{}
	for _, char := range randomBase62(each * len(base62)) {
		counts[char]++
	}
	for _, char := range base62 {
		if n := counts[char]; n < each*9/10 || n > each*11/10 {
			t.Errorf("%c was drawn %d times, want about %d", char, n, each)
		}
	}
}

func FuzzParseAPIKey(f *testing.F) {
	key := NewAPIKey("acct_0123456789ABCDEF", false).Reveal()
	for _, seed := range []string{"", "rr_test_", "rr_live_", key, key[:61], key + "0", "Bearer " + key, "rr_live_" + key[8:]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		key, err := ParseAPIKey(text)
		if err != nil {
			if !errors.Is(err, errAPIKeyInvalid) || key.Reveal() != "" {
				t.Fatalf("%q: error %v", text, err)
			}
			return
		}
		if key.Reveal() != text || resum(text) != text || len(key.AccountID()) != len("acct_")+16 {
			t.Fatalf("%q was accepted", text)
		}
		if bearer, err := BearerKey("Bearer " + text); err != nil || bearer.Hash() != key.Hash() {
			t.Fatalf("%q is a key, but as a bearer key: %v", text, err)
		}
	})
}

// resum gives a text the checksum that it should have.
func resum(text string) string {
	body := text[:len(text)-6]
	return body + checksum(body)
}

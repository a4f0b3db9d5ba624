package payments

// Realm returns "live" or "test", by the mode of the API key. The engine stores
// it with every idempotency key, so that no process works on keys of the other
// mode.
func (s *Stripe) Realm() string {
	if s.Live() {
		return "live"
	}
	return "test"
}

// LiveKey reports whether key, a Stripe API key, moves real money. It returns an
// error if key is no secret or restricted API key.
func LiveKey(key string) (bool, error) {
	config := Config{Key: key, Timeout: 1}
	return config.live(), config.check()
}

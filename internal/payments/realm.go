package payments

// Realm names the world in which a process acts, "test" or "live", by the mode
// of its Stripe key. It is stored with every key, so that no process finishes a
// key in the other world.
func Realm(stripe *Stripe) string {
	if stripe.Live() {
		return "live"
	}
	return "test"
}

// LiveKey tells the mode of a Stripe API key, and refuses what is none.
func LiveKey(key string) (bool, error) {
	config := Config{Key: key, Timeout: 1}
	return config.live(), config.check()
}

package fakestripe

// maxAmount is Stripe's limit of eight digits for an amount.
const maxAmount = 99_999_999

// readAmount reads the parameter amount, within the limits of the currency.
func readAmount(f *form) int64 {
	f.required("amount")
	amount, currency := f.integer("amount"), f.text("currency")
	least, known := minimum(currency)
	switch {
	case f.has("currency") && !known:
		f.reject(invalid("currency", "", "Invalid currency: %s. The fake knows the usual ones, in lower case.", currency))
	case amount < least:
		f.reject(invalid("amount", "amount_too_small", "Amount must be at least %d in the smallest unit of %s.", least, currency))
	case amount > maxAmount:
		f.reject(invalid("amount", "amount_too_large", "Amount must be no more than %d.", maxAmount))
	}
	return amount
}

// minimum returns the least amount that can be charged in a currency, in its
// smallest unit, and reports whether the fake knows the currency
// (https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts).
func minimum(currency string) (int64, bool) {
	switch currency {
	case "usd", "eur", "cad", "aud", "nzd", "chf", "sgd", "jpy", "brl", "inr":
		return 50, true
	case "gbp":
		return 30, true
	case "dkk":
		return 250, true
	case "nok", "sek":
		return 300, true
	case "hkd":
		return 400, true
	case "mxn":
		return 1000, true
	default:
		return 0, false
	}
}

package fakestripe

import "strings"

// verdict is how a card's bank answers a charge.
type verdict int

const (
	approves verdict = iota
	declines
	// authenticates means that the bank wants the customer to prove who they
	// are, which is impossible off session.
	authenticates
	// defers means that the bank does not decide for a while.
	defers
)

// card is one of Stripe's test cards (https://docs.stripe.com/testing).
type card struct {
	brand, last4 string
	verdict      verdict
	declineCode  string
	// unattachable is set if the bank declines already when the card is
	// attached to a customer, because Stripe tries it then.
	unattachable bool
}

// declined returns a card that the bank declines.
func declined(last4, declineCode string) card {
	return card{brand: "visa", last4: last4, verdict: declines, declineCode: declineCode, unattachable: true}
}

// cardOf returns the test card with the token of a payment method, and reports
// whether there is one. Stripe spells the declined ones with and without
// "visa".
func cardOf(token string) (card, bool) {
	switch strings.Replace(token, "pm_card_visa_", "pm_card_", 1) {
	case "pm_card_visa":
		return card{brand: "visa", last4: "4242"}, true
	case "pm_card_mastercard":
		return card{brand: "mastercard", last4: "4444"}, true
	case "pm_card_chargeDeclined":
		return declined("0002", "generic_decline"), true
	case "pm_card_chargeCustomerFail":
		return card{brand: "visa", last4: "0341", verdict: declines, declineCode: "generic_decline"}, true
	case "pm_card_chargeDeclinedInsufficientFunds":
		return declined("9995", "insufficient_funds"), true
	case "pm_card_chargeDeclinedLostCard":
		return declined("9987", "lost_card"), true
	case "pm_card_chargeDeclinedStolenCard":
		return declined("9979", "stolen_card"), true
	case "pm_card_chargeDeclinedExpiredCard":
		return declined("0069", "expired_card"), true
	case "pm_card_chargeDeclinedIncorrectCvc":
		return declined("0127", "incorrect_cvc"), true
	case "pm_card_chargeDeclinedProcessingError":
		return declined("0119", "processing_error"), true
	case "pm_card_authenticationRequired":
		return card{brand: "visa", last4: "3184", verdict: authenticates}, true
	case "pm_fake_processing":
		return card{brand: "visa", last4: "0001", verdict: defers}, true
	case "pm_fake_tryAgainLater":
		return card{brand: "visa", last4: "0003", verdict: declines, declineCode: "try_again_later"}, true
	default:
		return card{}, false
	}
}

// shape returns the card as Stripe shows it.
func (c card) shape() cardShape {
	return cardShape{Brand: c.brand, Country: "US", ExpMonth: 12, ExpYear: 2040, Funding: "credit", Last4: c.last4}
}

// decline returns the card error for a decline code. Some decline codes are
// also error codes (https://docs.stripe.com/declines/codes); the error code of
// all others is card_declined.
func decline(declineCode string) failure {
	f := failure{Type: typeCard, Code: declineCode, DeclineCode: declineCode, Message: "Your card was declined."}
	switch declineCode {
	case "expired_card":
		f.Message = "Your card has expired."
	case "incorrect_cvc":
		f.Message = "Your card's security code is incorrect."
	case "processing_error":
		f.Message = "An error occurred while processing your card. Try again in a little bit."
	case "authentication_required":
		f.Message = "Your card was declined. This transaction requires authentication."
	case "insufficient_funds":
		f.Code, f.Message = "card_declined", "Your card has insufficient funds."
	default:
		f.Code = "card_declined"
	}
	f.DocURL = docURL(f.Code)
	return f
}

package rides

import (
	"github.com/rocketrides/rocketrides/internal/jobs"
	"github.com/rocketrides/rocketrides/internal/phases"
	"github.com/rocketrides/rocketrides/internal/web"
)

// announce stages what the outside is told of a ride that has come to an end in
// this transaction: a receipt by e-mail, and a callback if the ride has an
// address for it. ride is the ride as it is from now on.
//
// A client whose card was declined has read so in its answer, unless it asked
// not to wait for one; only then does it get an e-mail.
func announce(tx *phases.Tx, key phases.Key, ride Ride, event jobs.Event) error {
	if event != jobs.EventDeclined || key.Async {
		receipt := jobs.Receipt{Event: event, RideID: ride.ID, Amount: ride.Fare.Amount, Currency: ride.Fare.Currency}
		if ride.Charge != nil {
			receipt.ChargeID = ride.Charge.ID
		}
		if err := jobs.Stage(tx, key, receipt); err != nil {
			return err
		}
	}
	if ride.CallbackURL == nil {
		return nil
	}
	callback, err := newCallback(ride, event)
	if err != nil {
		return err
	}
	return jobs.Stage(tx, key, callback)
}

// newCallback returns the callback about a ride that has an address for it.
func newCallback(ride Ride, event jobs.Event) (jobs.Callback, error) {
	body, err := web.EncodeJSON(ride)
	return jobs.Callback{Type: "ride." + string(event), RideID: ride.ID, URL: *ride.CallbackURL, Ride: string(body)}, err
}

package jobs

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/riverqueue/river"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// sendReceipt sends a receipt to the account's address.
func (c *Client) sendReceipt(ctx context.Context, job delivery[Receipt]) error {
	trace.LineOf(ctx).Set(slog.String("ride", job.Job.RideID))
	if job.Job.Event == "" {
		job.Job.Event = EventCharged
	}
	ride, err := c.readRide(ctx, job.Account, job.Job.RideID)
	if err != nil {
		return err
	}
	if !job.Job.Event.isTrueOf(ride.status) {
		return river.JobCancel(fmt.Errorf("the receipt says %s of a ride that is %s", job.Job.Event, ride.status))
	}
	receipt, err := write(job, ride)
	if err != nil {
		return err
	}
	return c.sendMail(ctx, receipt)
}

// isTrueOf reports whether a receipt may tell of this event of a ride with this
// status. A ride that is canceled was charged before.
func (e Event) isTrueOf(status string) bool {
	return string(e) == status || e == EventCharged && status == string(EventCanceled)
}

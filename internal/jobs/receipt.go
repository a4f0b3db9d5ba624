package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"

	"github.com/rocketrides/rocketrides/internal/trace"
)

// sendReceipt sends a receipt to the account's address, or logs it if there is
// no mail server.
func (c *Client) sendReceipt(ctx context.Context, job delivery[Receipt]) error {
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
	if c.config.Mail == nil {
		c.log.InfoContext(ctx, "receipt: no mail server is set, so it isn't sent",
			slog.String("ride", job.Job.RideID), slog.String("subject", receipt.subject))
		return nil
	}
	line := trace.LineOf(ctx)
	line.Set(slog.String("ride", job.Job.RideID), slog.String("message_id", c.config.Mail.messageID(receipt)))
	start := time.Now()
	err = c.config.Mail.send(ctx, receipt)
	line.AddForeign(time.Since(start))
	return err
}

// isTrueOf reports whether a receipt may tell of this event of a ride with this
// status. A ride that is canceled was charged before.
func (e Event) isTrueOf(status string) bool {
	return string(e) == status || e == EventCharged && status == string(EventCanceled)
}

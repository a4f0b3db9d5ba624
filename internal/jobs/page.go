package jobs

import (
	"context"
	"fmt"
	"net/http"

	"riverqueue.com/riverui"
)

// Page returns River's pages about jobs, and their API, below the path prefix.
// They can retry, cancel and delete jobs, and know no users, so they are for
// the address of operators. What another site makes an operator's browser send
// is refused. What runs in the background for them ends with ctx.
func (c *Client) Page(ctx context.Context, prefix string) (http.Handler, error) {
	pages, err := riverui.NewHandler(&riverui.HandlerOpts{
		Endpoints: riverui.NewEndpoints(c.river, nil),
		Logger:    c.riverLog,
		Prefix:    prefix,
	})
	if err != nil {
		return nil, fmt.Errorf("making River's pages: %w", err)
	}
	if err := pages.Start(ctx); err != nil {
		return nil, fmt.Errorf("starting River's pages: %w", err)
	}
	return http.NewCrossOriginProtection().Handler(pages), nil
}

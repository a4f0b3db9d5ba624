package client

import (
	"context"
	"time"
)

// OnPause replaces the client's pauses: pause is called instead of waiting.
func (c *Client) OnPause(pause func(context.Context, time.Duration) error) { c.pause = pause }

// PauseAfter is pauseAfter.
func (r Retry) PauseAfter(n int) time.Duration { return r.pauseAfter(n) }

// WithDefaults is withDefaults.
func (r Retry) WithDefaults() (Retry, error) { return r.withDefaults() }

// MaxBody is maxBody.
const MaxBody = maxBody

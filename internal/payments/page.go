package payments

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	stripe "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"
)

const (
	// listLimit is the largest page that Stripe returns.
	listLimit = 100
	// firstLog is after how many pages the log says for the first time how far
	// a listing is. One page takes Stripe about half a second.
	firstLog = 50
)

// A listing reads lists of Stripe's objects of one kind, for one look-up.
type listing[T any] struct {
	stripe *Stripe
	call   string
	path   string
	id     func(*T) string // of an object

	begun time.Time
	read  int // pages, of all lists
	logAt int // the number of pages at which the log says how far it is
}

// newListing returns a listing that begins now.
func newListing[T any](s *Stripe, call, path string, id func(*T) string) *listing[T] {
	return &listing[T]{stripe: s, call: call, path: path, id: id, begun: time.Now(), logAt: firstLog}
}

// A listPage is one page of a list. Its fields are pointers, because a document
// that lacks them isn't an empty list, and stripe-go's own types couldn't tell
// the two apart.
type listPage[T any] struct {
	Object  string `json:"object"`
	Data    *[]*T  `json:"data"`
	HasMore *bool  `json:"has_more"`
}

// all is pages for a list that must be read as a whole. It returns an error
// unless all pages were read.
func (l *listing[T]) all(ctx context.Context, params stripe.ListParamsContainer, read func([]*T) error) error {
	o, err := l.pages(ctx, params, read)
	if err == nil && !o.hasObject() {
		err = o.asError()
	}
	return err
}

// pages hands each page of the list to read, the newest first. If a page can't
// be read, that is the whole answer, because a part of the list proves nothing.
// The error is read's.
func (l *listing[T]) pages(
	ctx context.Context, params stripe.ListParamsContainer, read func([]*T) error,
) (*observation, error) {
	for after := ""; ; {
		page, o := l.page(ctx, params)
		if o.noCustomer() && after != "" {
			o.body = bodyOther // it was deleted meanwhile, and a part of its list was read
		}
		if !o.hasObject() {
			l.sayIfTooLong(ctx, o)
			return o, nil
		}
		l.count(ctx)
		last, ok := l.last(page)
		if !ok || *page.HasMore && (last == "" || last == after) {
			o.body = bodyOther
			return o, nil
		}
		if err := read(*page.Data); err != nil || !*page.HasMore {
			return o, err
		}
		after = last
		params.GetListParams().StartingAfter = new(after)
	}
}

// count counts a page, and logs now and then how many there were, ever more
// seldom.
func (l *listing[T]) count(ctx context.Context) {
	l.read++
	if l.read == l.logAt {
		l.logAt *= 2
		l.stripe.log.InfoContext(ctx, "reading a long list of Stripe's", slog.String("call", l.call),
			slog.Int("pages", l.read), slog.Float64("seconds", time.Since(l.begun).Seconds()))
	}
}

// sayIfTooLong makes o say so if the time of ctx, and not that of one request,
// has ended before the list did. Near that end a request gets no turn that is
// further away.
func (l *listing[T]) sayIfTooLong(ctx context.Context, o *observation) {
	end, _ := ctx.Deadline()
	late := errors.Is(o.err, errNoTurn) && time.Until(end) < l.stripe.timeout
	if l.read > 0 && (late || errors.Is(ctx.Err(), context.DeadlineExceeded)) {
		o.err = fmt.Errorf("the list is longer than could be read in %s: %d pages of up to %d were read, and there are more: %w",
			time.Since(l.begun).Round(time.Second), l.read, listLimit, o.err)
	}
}

// page reads one page of the list.
func (l *listing[T]) page(ctx context.Context, params stripe.ListParamsContainer) (*listPage[T], *observation) {
	params.GetListParams().Limit = new(int64(listLimit))
	page, values := new(listPage[T]), new(form.Values)
	form.AppendTo(values, params)
	return page, l.stripe.send(ctx, request{call: l.call, method: http.MethodGet, path: l.path, form: values.Encode()}, page)
}

// last returns the id of the page's last object, empty for an empty page. It
// returns false if p isn't a page of a list.
func (l *listing[T]) last(p *listPage[T]) (string, bool) {
	if p.Object != "list" || p.Data == nil || p.HasMore == nil {
		return "", false
	}
	last := ""
	for _, object := range *p.Data {
		if object == nil || l.id(object) == "" {
			return "", false
		}
		last = l.id(object)
	}
	return last, true
}

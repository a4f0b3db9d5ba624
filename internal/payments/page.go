package payments

import (
	"context"
	"net/http"

	stripe "github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"
)

// listLimit is the largest page that Stripe returns.
const listLimit = 100

// A listing is a list of Stripe's objects of one kind.
type listing[T any] struct {
	stripe *Stripe
	call   string
	path   string
	id     func(*T) string // of an object
}

// A listPage is one page of a list. Its fields are pointers, because a document
// that lacks them isn't an empty list, and stripe-go's own types couldn't tell
// the two apart.
type listPage[T any] struct {
	Object  string `json:"object"`
	Data    *[]*T  `json:"data"`
	HasMore *bool  `json:"has_more"`
}

// pages hands each page of the list to read, the newest first. If a page can't
// be read, that is the whole answer, because a part of the list proves nothing.
// The error is read's.
func (l listing[T]) pages(
	ctx context.Context, params stripe.ListParamsContainer, read func([]*T) error,
) (*observation, error) {
	for after := ""; ; {
		page, o := l.page(ctx, params)
		if o.noCustomer() && after != "" {
			o.body = bodyOther // it was deleted meanwhile, and a part of its list was read
		}
		if !o.hasObject() {
			return o, nil
		}
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

// page reads one page of the list.
func (l listing[T]) page(ctx context.Context, params stripe.ListParamsContainer) (*listPage[T], *observation) {
	ctx, cancel := l.stripe.limited(ctx)
	defer cancel()
	params.GetListParams().Limit = new(int64(listLimit))
	page, values := new(listPage[T]), new(form.Values)
	form.AppendTo(values, params)
	return page, l.stripe.send(ctx, request{call: l.call, method: http.MethodGet, path: l.path, form: values.Encode()}, page)
}

// last returns the id of the page's last object, empty for an empty page. It
// returns false if p isn't a page of a list.
func (l listing[T]) last(p *listPage[T]) (string, bool) {
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

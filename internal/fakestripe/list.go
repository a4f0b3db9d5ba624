package fakestripe

// The number of elements on a page (https://docs.stripe.com/api/pagination).
const (
	defaultLimit = 10
	maxLimit     = 100
)

// list is a page of Stripe's.
type list struct {
	Object  string `json:"object"`
	Data    []any  `json:"data"`
	HasMore bool   `json:"has_more"`
	URL     string `json:"url"`
}

// page returns a page of a table, newest first. It begins after the element
// starting_after, or ends before the element ending_before. keep returns when
// an element was created, and reports whether the filters of the route keep it.
// show returns an element as it is shown.
func page[T any](t *tx, url string, rows *table[T], keep func(*T) (int64, bool), show func(*T) any) (any, error) {
	at, step := cursor(t.form, rows)
	limit, span := readLimit(t.form), readSpan(t.form)
	if t.form.err != nil {
		return nil, t.form.err
	}
	out := list{Object: "list", Data: []any{}, URL: url}
	for ; at >= 0 && at < len(rows.rows); at += step {
		created, wanted := keep(rows.rows[at])
		if !wanted || !span.holds(created) {
			continue
		}
		if len(out.Data) == limit {
			out.HasMore = true
			break
		}
		out.add(show(rows.rows[at]), step)
	}
	return out, nil
}

// add adds an element at the end of the page, or at its beginning if the table
// is read from old to new.
func (l *list) add(element any, step int) {
	l.Data = append(l.Data, element)
	if step > 0 {
		copy(l.Data[1:], l.Data)
		l.Data[0] = element
	}
}

// cursor returns where the page begins, and the direction in which the table is
// read: -1 towards older elements, 1 towards newer ones.
func cursor[T any](f *form, rows *table[T]) (int, int) {
	if f.has("starting_after") && f.has("ending_before") {
		f.reject(invalid("", "", "You can only pass one of starting_after and ending_before."))
	}
	for name, step := range map[string]int{"starting_after": -1, "ending_before": 1} {
		if !f.has(name) {
			continue
		}
		at, known := rows.at[f.text(name)]
		if !known {
			f.reject(noSuch("object", f.text(name), name))
		}
		return at + step, step
	}
	return len(rows.rows) - 1, -1
}

// readLimit returns the number of elements on a page.
func readLimit(f *form) int {
	limit := f.integer("limit")
	if limit > maxLimit {
		f.reject(invalid("limit", "parameter_invalid_integer", "This value must be less than or equal to %d.", maxLimit))
	}
	if limit == 0 {
		return defaultLimit
	}
	return int(limit)
}

// span is a range of creation times, in Unix seconds, both ends included.
type span struct{ from, to int64 }

// holds reports whether a time is in the range.
func (s span) holds(at int64) bool { return s.from <= at && at <= s.to }

// readSpan returns the range of creation times that the request asks for.
func readSpan(f *form) span {
	s := span{from: 0, to: 1<<63 - 1}
	if at, ok := f.timestamp("created"); ok {
		s = span{at, at}
	}
	if at, ok := f.timestamp("created[gt]"); ok {
		s.from = max(s.from, at+1)
	}
	if at, ok := f.timestamp("created[gte]"); ok {
		s.from = max(s.from, at)
	}
	if at, ok := f.timestamp("created[lt]"); ok {
		s.to = min(s.to, at-1)
	}
	if at, ok := f.timestamp("created[lte]"); ok {
		s.to = min(s.to, at)
	}
	return s
}

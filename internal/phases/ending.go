package phases

import "time"

// An ending is how one transaction leaves its key.
type ending struct {
	kind endingKind
	// point is where the key stands after the transaction.
	point string
	// foreignKey and form are the next foreign call, when the transaction
	// freezes it.
	foreignKey, form *string
	// answer and its encoded headers, when the key is finished; replayed when
	// it was read off the row instead of written by this attempt.
	answer   Answer
	headers  string
	replayed bool
	// after, reason, detail, ref, failures and unsent belong to a key that is
	// given back, looked up or parked.
	after    time.Duration
	reason   string
	detail   string
	ref      string
	failures int
	unsent   bool
	// row is the row as it was read after a doubt.
	row *reading
}

type endingKind int

const (
	endNone     endingKind = iota
	endAdvanced            // the key goes on, in the same hands
	endNoted               // the key's call will be looked up, in the same hands
	endFinished            // the key has its answer
	endReleased            // the key is in nobody's hands
	endParked              // the key waits for a person
	endBuried              // the key has lived before
)

// final tells whether the attempt is over.
func (e ending) final() bool { return e.kind > endNoted }

// endingOf translates the outcome of a phase that started from point.
func endingOf(outcome Outcome, point string) (ending, error) {
	switch outcome.kind {
	case outcomeFinish:
		headers, err := encodeHeaders(outcome.answer.Headers)
		return ending{kind: endFinished, point: Finished, answer: outcome.answer, headers: headers}, err
	case outcomeWait:
		return ending{
			kind: endReleased, point: point, after: outcome.after, ref: outcome.ref,
			reason: "waiting for the other side",
		}, nil
	case outcomePark:
		return ending{kind: endParked, point: point, reason: outcome.reason, detail: outcome.detail}, nil
	default:
		return ending{}, errNoOutcome
	}
}

// guard is the statement that can carry the whole ending, when there is one:
// then the transaction needs no second write to the key's row.
func (a *attempt) guard(tx *Tx, end ending) (statement, bool) {
	switch {
	case tx.opened || a.entry == entryParked:
		return statement{}, false
	case a.entry == entryFresh:
		return insertKey(a, end, &tx.now), end.kind == endAdvanced
	default:
		return a.move(tx, end), true
	}
}

// opener is the guard of a transaction whose ending isn't known yet.
func (a *attempt) opener(tx *Tx) statement {
	stay := ending{kind: endAdvanced, point: a.key.RecoveryPoint}
	switch a.entry {
	case entryFresh:
		return insertKey(a, stay, &tx.now)
	case entryParked:
		return unparkKey(a, &tx.now)
	default:
		return advanceKey(a, stay, &tx.now)
	}
}

// move is the write that puts the ending into a row that this worker holds.
func (a *attempt) move(tx *Tx, end ending) statement {
	switch end.kind {
	case endNoted:
		return lookUpKey(a, end, &tx.now)
	case endFinished:
		return finishKey(a, end)
	case endReleased:
		return releaseKey(a, end)
	case endParked:
		return parkKey(a, end)
	case endBuried:
		return buryKey(a)
	default:
		return advanceKey(a, end, &tx.now)
	}
}

// held are the first arguments of every statement that ends in the fence.
func (a *attempt) held() []any {
	return []any{a.key.Account, a.key.Key, a.token, a.key.RecoveryPoint}
}

package crash

import (
	"net/http"
	"slices"
)

// legalPath follows the changes of the key in the log of the triggers.
func (e *evidence) legalPath() (bool, []string) {
	if len(e.final.log) == 0 {
		return false, nil
	}
	last := e.final.log[0]
	violations := appendIf(e.noted("I7"), last.from != "" || last.epoch != 1 || last.token == "" || !slices.Contains(e.flow.points, last.to), "the key began as %+v", last)
	holder := last.writer
	for _, row := range e.final.log[1:] {
		violations = append(violations, e.follows(last, row, holder)...)
		if row.token != last.token {
			holder = row.writer
		}
		last = row
	}
	return true, violations
}

// follows checks one change of a key. holder is the process that has the key's
// token, if one has it.
func (e *evidence) follows(last, row logRow, holder string) []string {
	moved, taken := row.from != row.to, row.token != last.token && row.token != ""
	violations := appendIf(nil, row.from != last.to || row.oldToken != last.token, "%+v does not follow %+v", row, last)
	back := slices.Index(e.flow.points, row.to) < slices.Index(e.flow.points, last.to)
	violations = appendIf(violations, back || row.epoch < last.epoch, "the key went back: %+v after %+v", row, last)
	violations = appendIf(violations, moved && last.token == "", "moved by a process without a lease: %+v", row)
	violations = appendIf(violations, taken && row.epoch <= last.epoch, "claimed without a new epoch: %+v after %+v", row, last)
	changed := moved || row.token != last.token || row.epoch != last.epoch
	return appendIf(violations, changed && !taken && last.token != "" && row.writer != holder, "%s held the key, and another process changed it: %+v", holder, row)
}

// finishedIsFinal compares a finished key with all later snapshots.
func (e *evidence) finishedIsFinal() (bool, []string) {
	violations := e.noted("I8")
	applies, first := false, ""
	for _, s := range e.snapshots {
		if first != "" {
			applies = true
			violations = appendIf(violations, s.key().whole != first, "a finished key was %s and then %s", first, s.key().whole)
		} else if s.key().finished {
			first = s.key().whole
		}
	}
	return applies, violations
}

// oneAnswer compares the first definitive reply with every other definitive
// one, and with every reply to a later request.
func (e *evidence) oneAnswer() (bool, []string) {
	found := e.terminals()
	if len(found) == 0 {
		return false, nil
	}
	first := found[0]
	violations := e.noted("I9")
	for _, r := range e.replies {
		same := r.status == first.status && r.body == first.body && r.headers == first.headers
		violations = appendIf(violations, e.flow.final(r) && !same, "answered %d %s%s, and then %d %s%s", first.status, first.headers, first.body, r.status, r.headers, r.body)
		later := r.from > first.to
		violations = appendIf(violations, later && !e.flow.final(r) && r.status < http.StatusInternalServerError, "answered %d after %d", r.status, first.status)
		violations = appendIf(violations, later && e.flow.final(r) && !r.replayed, "a repeated answer is not marked as one")
	}
	return len(e.replies) > 1, violations
}

// snapshotsAgree checks that the rows of each snapshot agree.
func (e *evidence) snapshotsAgree() (bool, []string) {
	var violations []string
	applies := false
	for _, s := range e.snapshots {
		if len(s.keys)+len(s.rides)+len(s.audits)+len(s.jobs) > 0 {
			applies = true
			violations = append(violations, e.agrees(s)...)
		}
	}
	return applies, violations
}

// agrees checks one snapshot.
func (e *evidence) agrees(s snapshot) []string {
	k, d := s.key(), s.ride()
	violations := appendIf(nil, len(s.keys) != 1 || len(s.rides) > 1, "%d keys and %d rides", len(s.keys), len(s.rides))
	violations = appendIf(violations, len(s.rides) != s.audited("ride.created"), "%d rides and %d audit records", len(s.rides), s.audited("ride.created"))
	violations = appendIf(violations, (k.point == e.flow.points[0]) == (len(s.rides) == 1), "%d rides at %s", len(s.rides), k.point)
	paid := k.point == e.flow.called || k.finished && k.status == e.flow.done
	violations = appendIf(violations, paid != (d.status == "charged") || paid != (d.charge != ""), "the ride is %s with charge %q at %s %d", d.status, d.charge, k.point, k.status)
	receipts := k.finished && k.status == e.flow.done
	violations = appendIf(violations, receipts != (len(s.jobs) == 1), "%d jobs at %s %d", len(s.jobs), k.point, k.status)
	return append(violations, s.keyAgrees()...)
}

// keyAgrees checks what every flow's key shows in one snapshot.
func (s snapshot) keyAgrees() []string {
	k := s.key()
	violations := appendIf(nil, k.parked != "" && s.audited("key.parked") == 0, "parked without an audit record")
	return appendIf(violations, k.sent && (k.foreignKey == "" || k.form == "" && !k.finished), "first_sent_at without a frozen form")
}

// nothingLost checks that the key holds what clients were told.
func (e *evidence) nothingLost() (bool, []string) {
	var violations []string
	for _, r := range e.terminals() {
		k := e.final.key()
		violations = appendIf(violations, !k.finished || k.body != r.body || k.status != r.status,
			"a client was told %d %s, and the key holds %d %s", r.status, r.body, k.status, k.body)
	}
	return len(e.terminals()) > 0, violations
}

// noFailureStored checks the stored answers, and that replies have known codes.
func (e *evidence) noFailureStored() (bool, []string) {
	violations := e.noted("I15")
	for _, s := range e.snapshots {
		k := s.key()
		stored := k.status == 0 || k.status == e.flow.done || slices.Contains(e.flow.refused, k.status)
		violations = appendIf(violations, !stored, "%d was stored: %s", k.status, k.body)
	}
	for _, r := range e.replies {
		named := e.flow.final(r) || slices.Contains([]string{
			"idempotency_key_in_use", "payment_under_review", "payment_processor_unavailable", "unavailable",
		}, r.code) || r.status == http.StatusAccepted && e.flow.name == "cancel"
		violations = appendIf(violations, !named, "answered %d %s", r.status, r.body)
	}
	return slices.ContainsFunc(e.replies, func(r reply) bool { return !e.flow.final(r) }), violations
}

// rightEnd checks how the request came to rest.
func (e *evidence) rightEnd() (bool, []string) {
	rest := e.atRest.end()
	violations := appendIf(e.noted("I16"), !slices.Contains(e.script.ends, rest), "the request came to rest as %s, and not as %v", rest, e.script.ends)
	bare := len(e.trial.faults) == 0 && !e.starved()
	violations = appendIf(violations, bare && rest != e.script.ends[0], "without a fault the request came to rest as %s", rest)
	return true, appendIf(violations, !e.final.key().finished, "the request never finished: it is %s", e.final.end())
}

// parkedForCause checks that the script explains why a key was parked.
func (e *evidence) parkedForCause() (bool, []string) {
	applies := false
	var violations []string
	for _, s := range e.snapshots {
		if parked := s.key().parked; parked != "" {
			applies = true
			violations = appendIf(violations, !slices.Contains(e.script.ends, s.end()), "parked for %s", parked)
		}
	}
	return applies, violations
}

// jobsAreCommitted returns the check that jobs of these kinds, one of each, come
// with the charge that they are about. charge returns "" while there may be
// none.
func jobsAreCommitted(charge func(snapshot) string, kinds ...string) func(*evidence) (bool, []string) {
	return func(e *evidence) (applies bool, violations []string) {
		for _, s := range e.snapshots {
			for _, j := range s.jobs {
				applies = true
				wrong := !slices.Contains(kinds, j.kind) || j.key != idempotencyKey || j.charge == "" || j.charge != charge(s) || !s.key().finished
				violations = appendIf(violations, wrong, "a job %+v of %q, with the charge %q", j, kinds, charge(s))
			}
			violations = appendIf(violations, len(s.jobs) > len(kinds), "%d jobs", len(s.jobs))
		}
		return applies, violations
	}
}

// The charges that jobs are about: that of the ride, of the canceled ride, and
// of the order.
func rideCharge(s snapshot) string  { return s.ride().charge }
func orderCharge(s snapshot) string { return s.order().charge }
func canceledCharge(s snapshot) string {
	if s.ride().status != "canceled" {
		return ""
	}
	return s.ride().charge
}

// nothingReaped checks that no key was reaped, because none is old enough.
func (e *evidence) nothingReaped() (bool, []string) {
	if e.trial.recovery == byRetry || e.trial.recovery == byOther {
		return false, nil // no completer ran while there were faults
	}
	was, violations := false, e.noted("I22")
	for _, s := range e.snapshots {
		violations = appendIf(violations, was && len(s.keys) == 0 || s.key().reaped, "the key is gone, or a tombstone")
		was = was || len(s.keys) > 0
	}
	return was, violations
}

package crash

import (
	"net/http"
	"slices"
)

// legalPath follows the log of the key's triggers.
func (e *evidence) legalPath() (bool, []string) {
	if len(e.final.log) == 0 {
		return false, nil
	}
	last := e.final.log[0]
	faults := say(e.noted("I7"), last.from != "" || last.epoch != 1 || last.token == "" || !slices.Contains(e.flow.points, last.to), "the key began as %+v", last)
	holder := last.writer
	for _, row := range e.final.log[1:] {
		faults = append(faults, e.follows(last, row, holder)...)
		if row.token != last.token {
			holder = row.writer
		}
		last = row
	}
	return true, faults
}

// follows checks one change of a key whose token the holder has, if anybody
// has.
func (e *evidence) follows(last, row logRow, holder string) []string {
	moved, taken := row.from != row.to, row.token != last.token && row.token != ""
	faults := say(nil, row.from != last.to || row.oldToken != last.token, "%+v does not follow %+v", row, last)
	back := slices.Index(e.flow.points, row.to) < slices.Index(e.flow.points, last.to)
	faults = say(faults, back || row.epoch < last.epoch, "the key went back: %+v after %+v", row, last)
	faults = say(faults, moved && last.token == "", "moved by nobody: %+v", row)
	faults = say(faults, taken && row.epoch <= last.epoch, "taken without a new epoch: %+v after %+v", row, last)
	changed := moved || row.token != last.token || row.epoch != last.epoch
	return say(faults, changed && !taken && last.token != "" && row.writer != holder, "%s held the key, and another changed it: %+v", holder, row)
}

func (e *evidence) finishedIsFinal() (bool, []string) {
	faults := e.noted("I8")
	applies, first := false, ""
	for _, s := range e.snapshots {
		if first != "" {
			applies = true
			faults = say(faults, s.key().whole != first, "a finished key was %s and then %s", first, s.key().whole)
		} else if s.key().finished {
			first = s.key().whole
		}
	}
	return applies, faults
}

// oneAnswer compares every answer that was asked for after the first definitive
// one with that one, and every definitive one whenever it was asked for.
func (e *evidence) oneAnswer() (bool, []string) {
	found := e.terminals()
	if len(found) == 0 {
		return false, nil
	}
	first := found[0]
	faults := e.noted("I9")
	for _, r := range e.replies {
		same := r.status == first.status && r.body == first.body && r.headers == first.headers
		faults = say(faults, r.terminal() && !same, "answered %d %s%s, and then %d %s%s", first.status, first.headers, first.body, r.status, r.headers, r.body)
		later := r.from > first.to
		faults = say(faults, later && !r.terminal() && r.status < http.StatusInternalServerError, "answered %d after %d", r.status, first.status)
		faults = say(faults, later && r.terminal() && !r.replayed, "a repeated answer is not marked as one")
	}
	return len(e.replies) > 1, faults
}

func (e *evidence) snapshotsAgree() (bool, []string) {
	var faults []string
	applies := false
	for _, s := range e.snapshots {
		if len(s.keys)+len(s.rides)+len(s.audits)+len(s.jobs) > 0 {
			applies = true
			faults = append(faults, e.agrees(s)...)
		}
	}
	return applies, faults
}

// agrees checks one moment.
func (e *evidence) agrees(s snapshot) []string {
	k, d := s.key(), s.ride()
	faults := say(nil, len(s.keys) != 1 || len(s.rides) > 1, "%d keys and %d rides", len(s.keys), len(s.rides))
	faults = say(faults, len(s.rides) != s.audited("ride.created"), "%d rides and %d audit records", len(s.rides), s.audited("ride.created"))
	faults = say(faults, (k.point == e.flow.points[0]) == (len(s.rides) == 1), "%d rides at %s", len(s.rides), k.point)
	paid := k.point == e.flow.called || k.finished && k.status == e.flow.done
	faults = say(faults, paid != (d.status == "charged") || paid != (d.charge != ""), "the ride is %s with charge %q at %s %d", d.status, d.charge, k.point, k.status)
	receipts := k.finished && k.status == e.flow.done
	faults = say(faults, receipts != (len(s.jobs) == 1), "%d jobs at %s %d", len(s.jobs), k.point, k.status)
	faults = say(faults, k.parked != "" && s.audited("key.parked") == 0, "parked without an audit record")
	return say(faults, k.sent && (k.foreignKey == "" || k.form == ""), "first_sent_at without a frozen form")
}

func (e *evidence) nothingLost() (bool, []string) {
	var faults []string
	for _, r := range e.terminals() {
		k := e.final.key()
		faults = say(faults, !k.finished || k.body != r.body || k.status != r.status,
			"a client was told %d %s, and the key holds %d %s", r.status, r.body, k.status, k.body)
	}
	return len(e.terminals()) > 0, faults
}

func (e *evidence) noFailureStored() (bool, []string) {
	faults := e.noted("I15")
	for _, s := range e.snapshots {
		k := s.key()
		stored := k.status == 0 || k.status == e.flow.done || k.status == http.StatusPaymentRequired
		faults = say(faults, !stored, "%d was stored: %s", k.status, k.body)
	}
	for _, r := range e.replies {
		named := r.terminal() || slices.Contains([]string{
			"idempotency_key_in_use", "payment_under_review", "payment_processor_unavailable", "unavailable",
		}, r.code)
		faults = say(faults, !named, "answered %d %s", r.status, r.body)
	}
	return slices.ContainsFunc(e.replies, func(r reply) bool { return !r.terminal() }), faults
}

func (e *evidence) rightEnd() (bool, []string) {
	rest := e.atRest.end()
	faults := say(e.noted("I16"), !slices.Contains(e.script.ends, rest), "the request came to rest as %s, and not as %v", rest, e.script.ends)
	bare := len(e.trial.faults) == 0 && !e.starved()
	faults = say(faults, bare && rest != e.script.ends[0], "without a fault the request came to rest as %s", rest)
	return true, say(faults, !e.final.key().finished, "the request never finished: it is %s", e.final.end())
}

func (e *evidence) parkedForCause() (bool, []string) {
	applies := false
	var faults []string
	for _, s := range e.snapshots {
		if parked := s.key().parked; parked != "" {
			applies = true
			faults = say(faults, !slices.Contains(e.script.ends, s.end()), "parked for %s", parked)
		}
	}
	return applies, faults
}

func (e *evidence) jobsAreCommitted() (bool, []string) {
	applies := false
	var faults []string
	for _, s := range e.snapshots {
		for _, j := range s.jobs {
			applies = true
			wrong := j.kind != "receipt" || j.key != idempotencyKey || j.charge != s.ride().charge || j.charge == "" || !s.key().finished
			faults = say(faults, wrong, "a job %+v beside the ride %+v", j, s.ride())
		}
		faults = say(faults, len(s.jobs) > 1, "%d jobs", len(s.jobs))
	}
	return applies, faults
}

func (e *evidence) nothingReaped() (bool, []string) {
	if e.trial.recovery == byRetry || e.trial.recovery == byOther {
		return false, nil // no completer has been round while there were faults
	}
	was, faults := false, e.noted("I22")
	for _, s := range e.snapshots {
		faults = say(faults, was && len(s.keys) == 0 || s.key().reaped, "the key is gone, or a tombstone")
		was = was || len(s.keys) > 0
	}
	return was, faults
}

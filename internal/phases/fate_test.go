package phases

import (
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// notSentError is an error of which pgx says that nothing was sent before it.
type notSentError struct{ error }

func (notSentError) SafeToRetry() bool { return true }

// TestFate is the table of what a failure proves about a transaction; see "When
// COMMIT isn't answered" in the package's comment.
func TestFate(t *testing.T) {
	t.Parallel()
	raise := func(severity, code string) error {
		return &pgconn.PgError{SeverityUnlocalized: severity, Severity: severity, Code: code}
	}
	guard := statement{guard: true}
	for name, test := range map[string]struct {
		failure failure
		want    fate
	}{
		"no connection to send on":                      {failure{err: errUnsent, broken: true, committing: true}, fateBroken},
		"what pgx believes was not sent":                {failure{err: notSentError{io.EOF}, committing: true}, fateDoubtful},
		"the wire, COMMIT on its way":                   {failure{err: io.EOF, committing: true}, fateDoubtful},
		"the wire, before COMMIT":                       {failure{err: io.EOF, broken: true}, fateBroken},
		"an error of ours, before COMMIT":               {failure{err: errors.New("a column has another type")}, fateFailed},
		"a statement that the server knows no more":     {failure{err: raise("ERROR", "26000"), committing: true}, fateRepeat},
		"a statement whose columns have changed":        {failure{err: raise("ERROR", "0A000"), committing: true}, fateRepeat},
		"the same of COMMIT":                            {failure{err: raise("ERROR", "26000"), committing: true, last: true}, fateDoubtful},
		"an ERROR before COMMIT":                        {failure{err: raise("ERROR", "23505"), committing: true}, fateFailed},
		"an ERROR for COMMIT itself":                    {failure{err: raise("ERROR", "XX000"), committing: true, last: true}, fateDoubtful},
		"a FATAL":                                       {failure{err: raise("FATAL", "XX000"), committing: true}, fateDoubtful},
		"an ERROR of class 08":                          {failure{err: raise("ERROR", "08006"), committing: true}, fateDoubtful},
		"an ERROR of a shutdown":                        {failure{err: raise("ERROR", "57P01"), committing: true}, fateDoubtful},
		"a cancelled statement":                         {failure{err: raise("ERROR", "57014"), committing: true}, fateFailed},
		"the guard":                                     {failure{statement: guard, err: raise("ERROR", "22012"), committing: true}, fateFenced},
		"the guard of an insert":                        {failure{statement: guard, err: raise("ERROR", "23505"), committing: true}, fateFenced},
		"the guard, before COMMIT":                      {failure{statement: guard, err: raise("ERROR", "22012")}, fateFenced},
		"another statement's division by zero":          {failure{err: raise("ERROR", "22012"), committing: true}, fateFailed},
		"another error of the guard":                    {failure{statement: guard, err: raise("ERROR", "23514"), committing: true}, fateFailed},
		"a serialization failure":                       {failure{err: raise("ERROR", "40001"), committing: true}, fateRepeat},
		"a deadlock":                                    {failure{err: raise("ERROR", "40P01"), committing: true}, fateRepeat},
		"a lock time-out":                               {failure{err: raise("ERROR", "55P03"), committing: true}, fateRepeat},
		"a serialization failure of COMMIT":             {failure{err: raise("ERROR", "40001"), committing: true, last: true}, fateDoubtful},
		"COMMIT answered with another tag than COMMIT":  {failure{err: errors.New("ROLLBACK"), committing: true, last: true}, fateDoubtful},
		"an old server that sends no unlocalized level": {failure{err: &pgconn.PgError{Severity: "ERROR", Code: "23505"}, committing: true}, fateFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := test.failure.fate(); got != test.want {
				t.Errorf("fate %d, want %d", got, test.want)
			}
		})
	}
}

// TestTroubleIsUnavailable: trouble passes by itself, and never counts against
// a key (I17).
func TestTroubleIsUnavailable(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"08006": true, "40001": true, "53100": true, "53300": true, "57014": true, "57P01": true, "58030": true, "XX000": true,
		"55P03": true, "25006": true, "23505": false, "42P01": false, "22021": false, "": false,
	} {
		if got := errors.Is(unavailable(&pgconn.PgError{SeverityUnlocalized: "ERROR", Code: code}), ErrUnavailable); got != want {
			t.Errorf("%q is trouble: %v, want %v", code, got, want)
		}
	}
	if !errors.Is(unavailable(&pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "25P03"}), ErrUnavailable) {
		t.Error("the end of a session does not count as trouble")
	}
}

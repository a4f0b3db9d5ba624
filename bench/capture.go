package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// logPrefix begins every line of the server's log that isn't the continuation
// of another.
const logPrefix = "bench> "

// A statement is one that a service has sent, with its parameters as texts.
type statement struct {
	sql        string
	parameters []*string // nil is NULL
}

// captureRide has a service hail rides one after the other, and returns the
// statements of the last two. They are taken from Postgres's log, which shows
// what came over the wire whoever sent it.
func (l *lab) captureRide(ctx context.Context, database string) (first, second []statement, err error) {
	accounts, err := l.createAccounts(ctx, database, 1, "pm_card_visa")
	if err != nil {
		return nil, nil, err
	}
	api, err := l.startAPI(ctx, withSetting(l.url(database), "log_statement", "all"))
	if err != nil {
		return nil, nil, err
	}
	defer l.stop(ctx, api) //nolint:errcheck // it has no more to do
	c, next := client{address: api.address}, freshRides(accounts)
	defer c.close()
	var rides [][]statement
	// The first ride also reads what is cached from then on. Others may meet
	// something that the api does from time to time.
	for range 12 {
		log, err := l.logged(func() error {
			if status := c.send(next()); status != created {
				return fmt.Errorf("a ride was answered %d", status)
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
		rides = append(rides, readLog(log))
	}
	rides = rides[2:]
	for i := range rides[1:] {
		if len(rides[i]) > 0 && slices.EqualFunc(rides[i], rides[i+1], func(a, b statement) bool { return a.sql == b.sql }) {
			return rides[i], rides[i+1], nil
		}
	}
	return nil, nil, errors.New("no two rides sent the same statements")
}

// captureScript returns pgbench's script of one ride, as the service sends it
// today. The database has the schema of today.
func (l *lab) captureScript(ctx context.Context, database string) (string, error) {
	first, second, err := l.captureRide(ctx, database)
	if err != nil {
		return "", err
	}
	return l.script(ctx, database, first, second)
}

// readLog returns the statements in a piece of Postgres's log.
func readLog(log string) []statement {
	var found []statement
	for entry := range strings.SplitSeq(log, logPrefix) {
		entry = strings.ReplaceAll(strings.TrimSuffix(entry, "\n"), "\n\t", "\n")
		_, sql, executes := strings.Cut(entry, ": ")
		switch {
		case strings.HasPrefix(entry, "LOG:  execute ") && executes:
			_, sql, _ = strings.Cut(sql, ": ")
			found = append(found, statement{sql: sql})
		case strings.HasPrefix(entry, "LOG:  statement: "):
			found = append(found, statement{sql: strings.TrimPrefix(entry, "LOG:  statement: ")})
		case strings.HasPrefix(entry, "DETAIL:  parameters: ") && len(found) > 0:
			found[len(found)-1].parameters = readParameters(strings.TrimPrefix(entry, "DETAIL:  parameters: "))
		}
	}
	return found
}

var parameter = regexp.MustCompile(`(?s)\$\d+ = (NULL|'(?:[^']|'')*')`)

// readParameters reads $1 = 'text', $2 = NULL.
func readParameters(line string) []*string {
	var parameters []*string
	for _, found := range parameter.FindAllStringSubmatch(line, -1) {
		if found[1] == "NULL" {
			parameters = append(parameters, nil)
			continue
		}
		text := strings.ReplaceAll(found[1][1:len(found[1])-1], "''", "'")
		parameters = append(parameters, &text)
	}
	return parameters
}

// differing is how many characters of what differs from ride to ride a script
// replaces by a random number.
const differing = 12

// script writes pgbench's script of one ride: the statements of first, where
// what is different in second differs in every transaction. What a service
// sends between BEGIN and COMMIT travels in one pipeline, as the service sends
// it; statements before and after take a round trip each.
func (l *lab) script(ctx context.Context, database string, first, second []statement) (string, error) {
	conn, err := pgx.Connect(ctx, l.url(database))
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // it is only given back
	different := differences(first, second)
	var b strings.Builder
	// Both powers are exact: a float64 holds whole numbers up to 2^53.
	fmt.Fprintf(&b, "\\set n random(%.0f, %.0f)\n", math.Pow10(differing-1), math.Pow10(differing)-1)
	for i, s := range first {
		begins := strings.HasPrefix(strings.TrimSpace(strings.ToUpper(s.sql)), "BEGIN")
		ends := strings.TrimSpace(strings.ToUpper(s.sql)) == "COMMIT"
		if begins {
			b.WriteString("\\startpipeline\n")
		}
		sql := s.sql
		if len(s.parameters) > 0 {
			described, err := conn.Prepare(ctx, fmt.Sprintf("captured_%d", i), s.sql)
			if err != nil {
				return "", fmt.Errorf("describing %s: %w", s.sql, err)
			}
			if sql, err = s.literal(conn, described.ParamOIDs, different); err != nil {
				return "", err
			}
		}
		fmt.Fprintf(&b, "%s;\n", strings.TrimSpace(sql))
		if ends {
			b.WriteString("\\endpipeline\n")
		}
	}
	return b.String(), nil
}

var word = regexp.MustCompile(`[0-9A-Za-z_-]{16,}`)

// differences returns the words of the first statements, ids and keys, that are
// others in the second ones. Words as short as numbers and times are no ids.
func differences(first, second []statement) []string {
	var different []string
	for i := range first {
		for j, p := range first[i].parameters {
			if p == nil || second[i].parameters[j] == nil {
				continue
			}
			ours, theirs := word.FindAllString(*p, -1), word.FindAllString(*second[i].parameters[j], -1)
			for k := range min(len(ours), len(theirs)) {
				if ours[k] != theirs[k] && !slices.Contains(different, ours[k]) {
					different = append(different, ours[k])
				}
			}
		}
	}
	return different
}

// literal returns the statement with its parameters in their places, as
// literals of their types. The ends of words that differ become pgbench's
// variable.
func (s statement) literal(conn *pgx.Conn, types []uint32, different []string) (string, error) {
	sql := s.sql
	for i, p := range slices.Backward(s.parameters) { // $12 before $1
		known, ok := conn.TypeMap().TypeForOID(types[i])
		if !ok {
			return "", fmt.Errorf("a parameter's type is unknown: %d", types[i])
		}
		value := "NULL"
		if p != nil {
			value = "'" + strings.ReplaceAll(*p, "'", "''") + "'"
			for _, w := range different {
				value = strings.ReplaceAll(value, w, w[:len(w)-differing]+"' || :n || '")
			}
		}
		sql = strings.ReplaceAll(sql, fmt.Sprintf("$%d", i+1), "("+value+")::"+known.Name)
	}
	return sql, nil
}

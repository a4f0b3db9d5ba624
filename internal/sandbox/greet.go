package sandbox

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// greeting is what people see when everything is ready. The command is one line
// that can be pasted as it is.
const greeting = `
Rocket Rides is ready. Hail a ride, then send the same command again: the ride is charged once.

  curl -i %[1]s/v1/rides -H 'Authorization: Bearer %[2]s' -H 'Idempotency-Key: %[3]s' -H 'Content-Type: application/json' -d '{"origin":{"lat":37.7749,"lon":-122.4194},"target":{"lat":37.8044,"lon":-122.2712}}'

  API reference       %[1]s/docs
  what Stripe saw     %[4]s/_fake/ledger
  charges per ride    %[4]s/_fake/charges
  e-mails             %[9]s
  callbacks           %[10]s
  log                 %[11]s
  health, metrics     %[5]s/readyz  %[5]s/metrics
  of the completer    %[12]s/readyz  %[12]s/metrics  %[12]s/jobs
  database            psql %[6]s
  other accounts      %[7]s
  all of it           eval "$(%[8]s)"

Ctrl-C stops everything. The next start finds the same accounts and rides.

`

func (s *sandbox) greet(ready state) {
	database := quoted(ready.DatabaseURL)
	if s.command.DatabaseURL != "" {
		database = `"$DATABASE_URL"` // it holds a password
	}
	env := quoted(os.Args[0]) + " env --data " + quoted(s.data)
	fmt.Fprintf(s.stdout, greeting, ready.APIURL, ready.Accounts[0].APIKey, uuid.NewString(), ready.StripeURL, ready.AdminURL, database,
		s.stateFile.path, env, ready.InboxURL, ready.CallbacksURL, filepath.Join(s.data, logFileName), ready.CompleterAdminURL)
}

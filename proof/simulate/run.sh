#!/bin/sh
# Riders in trouble against a sandbox of their own, whose api is killed every ten seconds and started again: see
# `make simulate`. ARGS go to the simulator. The exit code is the simulator's, or 1 if the api was never killed.
set -eu
cd "$(dirname "$0")/../.."

unset DATABASE_URL # or all this would happen in that database
data=$(mktemp -d)
chmod 755 "$data" # Postgres may run as another user
bin/sandbox --data "$data" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --stripe 127.0.0.1:0 >"$data/log" 2>&1 &
sandbox=$!
killer=
stop() {
	[ -z "$killer" ] || kill "$killer" 2>/dev/null || :
	kill "$sandbox" 2>/dev/null || :
	wait "$sandbox" 2>/dev/null || :
	files=$(readlink "$data/postgres" || :) # if root runs this, they are elsewhere
	case $files in /var/tmp/?*) rm -rf "$files" ;; esac
	rm -rf "$data"
}
trap stop EXIT
trap 'exit 1' INT TERM

until [ -e "$data/sandbox.json" ]; do
	kill -0 "$sandbox" 2>/dev/null || { cat "$data/log" >&2; exit 1; }
	sleep 0.2
done
# Ends with the sandbox: after that there is no file, and no api to kill.
(while sleep 10 && api=$(sed -n 's/.*"api": \([0-9]*\).*/\1/p' "$data/sandbox.json"); do
	if kill -9 "$api"; then echo "$api" >>"$data/kills"; fi
done) &
killer=$!
eval "$(bin/sandbox env --data "$data")"
# shellcheck disable=SC2086 # ARGS are several words
bin/simulator --strict --riders 50 --duration 60s --faults 500ms ${ARGS:-}
[ -s "$data/kills" ] || { echo "the api was never killed: this shows nothing" >&2; exit 1; }

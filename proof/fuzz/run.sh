#!/bin/sh
# Runs every fuzz target of the repository, one after the other, each for FUZZTIME (5m by default) with FUZZPARALLEL
# workers (by default as many as there are processors). FUZZ is a regular expression for the names of the targets. The
# table at the end has one line for each target. The exit code is 1 if a target found something, or tried no input.
set -eu
go=${GO:-go}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

# go test -list prints the targets of a package, and then the package.
if ! $go test -list "${FUZZ:-^Fuzz}" ./... >"$dir/list" 2>"$dir/trouble"; then
	cat "$dir/list" "$dir/trouble"
	exit 1
fi
awk '/^Fuzz/ { names[n++] = $1 } /^ok / { for (i = 0; i < n; i++) print $2, names[i]; n = 0 }' "$dir/list" >"$dir/targets"
[ -s "$dir/targets" ] || { echo "no fuzz target matches ${FUZZ:-^Fuzz}"; exit 1; }

found=0
idle=0
while read -r package target; do
	echo "== $target (${package##*/})"
	# Minimizing an interesting input could take a minute, in which no new input is tried.
	{
		code=0
		$go test -run='^$' -fuzz="^$target\$" -fuzztime="${FUZZTIME:-5m}" -fuzzminimizetime=100x \
			${FUZZPARALLEL:+-parallel "$FUZZPARALLEL"} "$package" </dev/null || code=$?
		echo "$code" >"$dir/code"
	} 2>&1 | tee "$dir/log"
	counts=$(awk '
		/^fuzz: elapsed:.*execs:/ { split($0, part, /execs: |new interesting: /); split(part[2], execs, " "); split(part[3], fresh, " ") }
		END { print execs[1] + 0, fresh[1] + 0 }' "$dir/log")
	result=clean
	[ "${counts% *}" != 0 ] || { result=NOTHING; idle=1; }
	[ "$(cat "$dir/code")" = 0 ] || { result=FOUND; found=1; }
	printf '%-30s %12d executions %6d new inputs   %s\n' "$target" "${counts% *}" "${counts#* }" "$result" >>"$dir/table"
done <"$dir/targets"

echo
cat "$dir/table"
[ "$idle" = 0 ] || echo 'NOTHING: a target that tried no input proves nothing. Give it more time.'
[ "$found" = 0 ] || echo 'What was found is kept under testdata/fuzz, and go test fails until it is fixed. Commit it with the fix.'
exit "$((found | idle))"

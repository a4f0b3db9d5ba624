#!/bin/sh
# Runs all tests that share a database on DATABASE_URL, a database of a Citus cluster or a pooler in front of it. They
# run one after the other, and each finds the tables empty. At the end come a line for each package, and the list of the
# tests that can't run there, with the reasons. The exit code is 1 if a test failed.
set -eu
go=${GO:-go}
[ -n "${DATABASE_URL:-}" ] || { echo 'Which database? Set DATABASE_URL in the environment'; exit 2; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

failed=0
for package in $(grep -l 'postgres/pgtest"' internal/*/*_test.go | cut -d/ -f2 | sort -u); do
	echo "== $package"
	: >"$dir/list"
	code=0
	# A test that waits for its turn must not keep the subtests of another one waiting.
	TEST_CITUS_URL=$DATABASE_URL TEST_CITUS_LIST=$dir/list \
		$go test -v -count=1 -parallel=1000 -timeout=30m ${ARGS:-} "./internal/$package" >"$dir/log" 2>&1 </dev/null || code=$?
	if [ "$code" != 0 ]; then
		failed=1
		# If the database can't be used, every test says so.
		if grep -m1 -o 'preparing the Citus database: .*' "$dir/log"; then exit 1; fi
		grep -vE '^ *(=== |--- (PASS|SKIP))' "$dir/log"
	fi
	sed "s/^/$package: /" "$dir/list" | sort >>"$dir/lists"
	awk -v package="$package" -v left="$(wc -l <"$dir/list")" '
		/^--- PASS/ { passed++ } /^--- FAIL/ { failed++ } /^(ok|FAIL)[ \t]+github/ { time = $3 }
		END { printf "%-10s %4d passed %3d failed %3d left out %9s\n", package, passed, failed, left, time }' "$dir/log" >>"$dir/table"
done

echo
cat "$dir/table"
echo
echo 'Left out:'
cat "$dir/lists"
exit "$failed"

#!/usr/bin/env bash
# Checks the model of the engine's protocol with spin, and prints the results. See README.md in this folder.
#
#   proof/model/check.sh                  runs all checks, and exits 1 if a result is not as expected
#   proof/model/check.sh NAME…            runs these checks alone
#   proof/model/check.sh --trace NAME     runs one check, and prints the run that spin found, step by step
#
# JOBS is how many checks run at once, 2 by default.
set -euo pipefail

models=$(cd "$(dirname "$0")" && pwd)
invariants=$models/../../internal/phases/doc.go

# Each line is a check: its name, what spin must find, how it searches, and the switches of the model.
# What spin must find: "holds"; or the invariant that breaks; or "reached", for something that must be possible in the
# correct design, because a model in which nothing happens breaks nothing either.
# How it searches: all states, up to the first run that is wrong (depth), the shortest run first (breadth), or endless
# runs (cycles).
checks() {
	cat <<-'END'
		correct            holds   depth   -DTWO_MORTALS
		with_operator      holds   depth   -DOPERATOR
		comes_to_rest      holds   cycles  -DCALM
		unfenced           I2      breadth -DWRONG=unfenced -DONLY=I2
		no_token           I5      breadth -DWRONG=no_token -DONLY=I5
		no_point           I7      breadth -DWRONG=no_point
		no_point_money     I4      breadth -DWRONG=no_point -DONLY=I4
		error_final        I3      breadth -DWRONG=error_final
		new_key            I1      breadth -DWRONG=new_key
		no_window          I6      breadth -DWRONG=no_window
		no_window_money    I1      breadth -DWRONG=no_window -DONLY=I1
		endless_pause      I1      breadth -DWRONG=endless_pause -DONLY=I1
		moving_window      I5      breadth -DWRONG=moving_window
		send_first         I5      breadth -DWRONG=send_first
		nothing_means_send I1      breadth -DWRONG=nothing_means_send -DONLY=I1
		no_cancel          I3      breadth -DWRONG=no_cancel
		early_answer       I2      breadth -DWRONG=early_answer
		hasty_operator     I3      breadth -DOPERATOR -DWRONG=hasty_operator
		call_unseen        I3      breadth -DOPERATOR -DWRONG=call_unseen
		call_forgotten     I3      breadth -DOPERATOR -DWRONG=call_forgotten
		claim_uncovered    I3      breadth -DOPERATOR -DWRONG=claim_uncovered
		resolve_finished   I8      breadth -DOPERATOR -DWRONG=resolve_finished
		resolve_finished_told I9   breadth -DOPERATOR -DWRONG=resolve_finished -DONLY=I9
		reap_unfinished    I4      breadth -DWRONG=reap_unfinished -DONLY=I4
		no_unique_ride     I22     breadth -DWRONG=no_unique_ride
		no_completer       I16     cycles  -DCALM -DWRONG=no_completer
		never_park         I16     cycles  -DCALM -DWRONG=never_park
		refund_correct     holds   depth   -DWRONG=none
		refund_no_claim    I2      depth   -DWRONG=no_claim -DONLY=I2
		refund_freed_early I12     breadth -DWRONG=freed_early
		refund_refused_after_loss I4 breadth -DWRONG=refused_after_loss
		refund_pending_is_done I2  breadth -DWRONG=pending_is_done
		refund_unfenced    I8      breadth -DWRONG=part_fenced -DONLY=I8
	END
	local event
	for event in charged declined parked adopted takeover fenced late_commit unsent rolled forgotten tombstone second_life; do
		echo "$event reached breadth -DREACH=$event"
	done
	for event in resolved_charged resolved_not resolved_soon; do
		echo "$event reached breadth -DOPERATOR -DREACH=$event"
	done
	for event in refunded refused parked adopted second_key failed_late takeover refused_by_dispute; do
		echo "refund_${event#refund_} reached breadth -DREACH=$event"
	done
}

names() { awk '{ printf "%s ", $1 }' <<<"$(checks)"; }

# model_of prints the file of the model that a check is about.
model_of() { case $1 in refund_*) echo refunds.pml ;; *) echo rides.pml ;; esac; }

# check runs one check in a folder of its own, and leaves its row of the table there. Two run at once, and each may use
# 2.5 GB of memory; the largest uses 0.9 GB.
check() {
	local name=$1 expected=$2 search=$3 began file
	began=$(date +%s) file=$(model_of "$1")
	shift 3
	mkdir "$dir/$name" && cd "$dir/$name" && cp "$models/$file" .
	spin -a -o3 "$@" "$file" >spin.log 2>&1 || { cat spin.log; return 1; }
	case $search in
	depth) gcc -O2 -DSAFETY -DNOREDUCE -DNOBOUNDCHECK -DMEMLIM=2500 -o pan pan.c && ./pan -m2000000 ;;
	breadth) gcc -O0 -DSAFETY -DNOREDUCE -DBFS -DMEMLIM=2500 -o pan pan.c && ./pan ;;
	cycles) gcc -O2 -DNOREDUCE -DNFAIR=3 -DMEMLIM=2500 -o pan pan.c && ./pan -a -f -m2000000 ;;
	esac >pan.log 2>&1 || true
	[ ! -e "$file.trail" ] || replay "$@" "$file" >trace
	awk -v row="$name $expected $(verdict)" -v seconds=$(($(date +%s) - began)) \
		'/states, stored/ { states = $1 } END { print row, states + 0, seconds }' pan.log >row
	awk '{ printf "%-21s %-8s after %d s, %d states%s\n", $1, $3, $5, $4, $2 == $3 ? "" : ": NOT as expected, which is " $2 }' row
}

# replay prints the run that spin found, up to the step that it was looking for.
replay() {
	{ spin -t -T -B "$@" 2>&1 || true; } | sed '/^spin: warning/d; / is broken$/q; / is reached$/q'
}

# verdict prints what spin found. It prints "holds" only after a complete search.
verdict() {
	if grep -q 'acceptance cycle' pan.log; then
		echo I16
	elif [ -e trace ]; then
		awk 'END { print $NF == "broken" ? $1 : $NF == "reached" ? $NF : "unknown" }' trace
	elif grep -q 'errors: 0' pan.log && ! grep -qE 'not completed|too small|out of memory|pan: reached' pan.log; then
		echo holds
	else
		echo incomplete
	fi
}

# legend prints the numbers and sentences of the invariants that are named in a text.
legend() {
	awk -v text="$*" '
		BEGIN { n = split(text, word); for (i = 1; i <= n; i++) named[word[i]] = 1 }
		/^\/\/\tI[0-9]+ / { on = named[$2]; if (on) { printf "%s%-4s", nl, $2; nl = "\n"; $1 = $2 = "" } }
		/^\/\/\t  / { $1 = "" }
		!/^\/\/\t/ && !/^ / { on = 0 }
		on { sub(/^ +/, ""); printf " %s", $0 }
		END { printf "%s%s", nl, nl }' "$invariants"
}

for tool in spin gcc; do
	command -v $tool >/dev/null || { echo "$tool is missing: apt-get install spin gcc" >&2; exit 1; }
done

trace=
if [ "${1-}" = --trace ]; then
	trace=${2:?which check? One of: $(names)}
	set -- "$trace"
fi
chosen=$(checks | awk -v names="$*" 'BEGIN { n = split(names, list); for (i in list) want[list[i]] } !n || $1 in want')
count=$(grep -c . <<<"$chosen" || true)
if [ "$#" -gt 0 ] && [ "$count" -ne "$#" ]; then
	echo "there is no such check; the checks are: $(names)" >&2
	exit 2
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export dir models
export -f check model_of replay verdict
xargs -P "${JOBS:-2}" -L 1 bash -ceuo pipefail 'check "$@"' _ <<<"$chosen" || true

table=$(while read -r name expected _; do cat "$dir/$name/row" 2>/dev/null || echo "$name $expected failed 0 0"; done <<<"$chosen")
echo
printf 'check expected found states seconds\n%s\n' "$table" | awk '{ printf "%-21s  %-8s  %-10s  %8s  %7s\n", $1, $2, $3, $4, $5 }'
[ -z "$trace" ] || { echo; cat "$dir/$trace/trace" 2>/dev/null || echo "Spin found nothing, so there is no run to show."; }
echo
legend "$table"

differ=$(awk '$2 != $3' <<<"$table" | grep -c . || true)
[ "$differ" -eq 0 ] || { echo "$differ of $count checks are not as expected" >&2; exit 1; }
echo "all $count checks are as expected"

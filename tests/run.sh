#!/usr/bin/env bash
# Sets up what the tests need (OS packages, as root, where they are missing), then formats, lints, checks and tests.
# Arguments: tests instead of all. The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."
. tests/setup.sh
setup_packages fusermount3:fuse3 /usr/include/fuse3/fuse_lowlevel.h:libfuse3-dev gcc:gcc git:git rsync:rsync \
  sqlite3:sqlite3 python3:python3 strace:strace unshare:util-linux setpriv:util-linux make:make setfattr:attr vim:vim \
  ip:iproute2

failed=0 passed=0
static() {
  if "$@"; then return; fi
  echo "failed: $*"
  failed=$((failed + 1))
}
deno install --quiet --frozen || exit 1

logs=$(mktemp -d) beside=
trap 'rm -rf "$logs"; [ -z "$beside" ] || kill -- "-$beside"' EXIT
trap 'exit 130' INT TERM
export NO_COLOR=1
test_all=(deno test --allow-all --no-check)
if [ $# = 0 ]; then
  # Those of the command line mostly wait for processes, one at a time, and take about as long as all others together:
  # the two run side by side. Job control, as else SIGINT would be ignored in what runs in the background.
  set -m
  "${test_all[@]}" tests --ignore=tests/cli >"$logs/beside" 2>&1 </dev/null &
  beside=$!
  set +m
  set -- tests/cli
fi
static deno fmt --check --quiet
static deno lint --quiet
static deno check --quiet .

count() { # LOG STATUS
  local counts broken
  counts=$(grep -E '^(ok|FAILED) \| [0-9]+ passed' "$1" | tail -n 1)
  broken=$(sed -nE 's/.*\| ([0-9]+) failed.*/\1/p' <<<"$counts")
  passed=$((passed + $(sed -nE 's/^[a-zA-Z]+ \| ([0-9]+) passed.*/\1/p' <<<"$counts" | grep . || echo 0)))
  failed=$((failed + ${broken:-0}))
  # Whatever else went wrong counts as one.
  [ -n "$counts" ] && { [ "$2" = 0 ] || [ "${broken:-0}" -gt 0 ]; } || failed=$((failed + 1))
}
"${test_all[@]}" "$@" 2>&1 | tee "$logs/here"
count "$logs/here" "${PIPESTATUS[0]}"
if [ -n "$beside" ]; then
  wait "$beside"
  status=$?
  beside=
  cat "$logs/beside"
  count "$logs/beside" "$status"
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

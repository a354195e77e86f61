#!/usr/bin/env bash
# Sets up what the tests need (OS packages, as root, where they are missing), then formats, lints, checks and tests.
# The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.."
. tests/setup.sh
setup_packages fusermount3:fuse3 /usr/include/fuse3/fuse_lowlevel.h:libfuse3-dev gcc:gcc git:git rsync:rsync \
  sqlite3:sqlite3 python3:python3 strace:strace unshare:util-linux setpriv:util-linux make:make setfattr:attr vim:vim \
  ip:iproute2

failed=0
static() {
  if "$@"; then return; fi
  echo "failed: $*"
  failed=$((failed + 1))
}
deno install --quiet --frozen || exit 1
static deno fmt --check --quiet
static deno lint --quiet
static deno check --quiet .

log=$(mktemp)
trap 'rm -f "$log"' EXIT
NO_COLOR=1 deno test --allow-all --no-check "${@:-tests}" 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
counts=$(grep -E '^(ok|FAILED) \| [0-9]+ passed' "$log" | tail -n 1)
passed=$(sed -nE 's/^[a-zA-Z]+ \| ([0-9]+) passed.*/\1/p' <<<"$counts")
broken=$(sed -nE 's/.*\| ([0-9]+) failed.*/\1/p' <<<"$counts")
[ -n "$counts" ] || failed=$((failed + 1))
[ "$status" = 0 ] || [ "${broken:-0}" -gt 0 ] || failed=$((failed + 1))
echo "${passed:-0} passed, $((${broken:-0} + failed)) failed"
[ "$status" = 0 ] && [ "$failed" = 0 ]

#!/usr/bin/env bash
# The tests that need no mount and no tool of Linux under the Windows build of Deno (deno.sh), then, on Linux, those that
# need both. Arguments: tests for the first part instead of all. The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."
. tests/setup.sh
setup_packages python3:python3
export COVERFS_WINDOWS_DENO=$PWD/tests/windows/deno.sh NO_COLOR=1
deno install --quiet --frozen || exit 1
"$COVERFS_WINDOWS_DENO" --version || exit 1
double=${COVERFS_WINE:-${XDG_CACHE_HOME:-$HOME/.cache}/coverfs-wine}/dokan_double.dll
x86_64-w64-mingw32-gcc -shared -static -O2 -Wall -Wextra -Werror -o "$double" tests/windows/dokan_double.c || exit 1
export COVERFS_DOKAN_DOUBLE=Z:${double//\//\\}

# Left out: what only mounts or only Linux can show (the rest of ffi, mounted, posix, programs, torture), and the long
# searches of crashes in RAM, where nothing is of the system.
if [ $# = 0 ]; then
  set -- tests/imports_test.ts tests/threat_model_test.ts tests/crypto tests/layout tests/store tests/net tests/fuzz \
    tests/cli tests/hostile tests/load tests/ffi/dokan_*test.ts tests/ffi/session_end_test.ts
  for file in tests/fs/*_test.ts; do
    case $file in */crash_test.ts | */sweep_test.ts) ;; *) set -- "$@" "$file" ;; esac
  done
fi

passed=0 failed=0
count() {
  local log=$1 status=$2 line
  line=$(grep -E '^(ok|FAILED) \| [0-9]+ passed' "$log" | tail -n 1)
  passed=$((passed + $(sed -nE 's/^[a-zA-Z]+ \| ([0-9]+) passed.*/\1/p' <<<"$line" | grep . || echo 0)))
  local broken
  broken=$(sed -nE 's/.*\| ([0-9]+) failed.*/\1/p' <<<"$line")
  failed=$((failed + ${broken:-0}))
  # Whatever else went wrong counts as one.
  [ "$status" = 0 ] || [ "${broken:-0}" -gt 0 ] || failed=$((failed + 1))
  [ -n "$line" ] || [ "$status" != 0 ] || failed=$((failed + 1))
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$COVERFS_WINDOWS_DENO" test --allow-all --no-check "$@" 2>&1 | sed -u 's/\r$//' | tee "$log"
count "$log" "${PIPESTATUS[0]}"
deno test --allow-all --no-check tests/windows 2>&1 | tee "$log"
count "$log" "${PIPESTATUS[0]}"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]

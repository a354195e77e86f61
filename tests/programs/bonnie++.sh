# Bonnie++ writes, rewrites, reads, seeks and makes files by the thousand without an error.
. "${0%/*}/prelude.sh"

# -f: without the tests that write and read byte by byte, each a request of its own, for minutes.
bonnie++ -q -f -d . -s $((16 * ROUNDS))M -r $((8 * ROUNDS))M -n 2:4096:16:4 -u "$(id -un)" >"$OUT/csv" 2>"$OUT/said" || fail "$(cat "$OUT/said")"
[ "$(tail -n 1 "$OUT/csv" | tr ',' '\n' | wc -l)" -ge 40 ]; ! grep -i 'error\|drastic' "$OUT/said"; [ -z "$(ls -A)" ] || fail "files are left"

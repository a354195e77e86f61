# Bonnie++ writes, rewrites, reads, seeks and makes files by the thousand without an error.
. "${0%/*}/prelude.sh"

bonnie++ -q -d . -s $((4 * ROUNDS))M -r $((2 * ROUNDS))M -n 2:4096:16:4 -u "$(id -un)" >"$OUT/csv" 2>"$OUT/said" || fail "$(cat "$OUT/said")"
[ "$(tail -n 1 "$OUT/csv" | tr ',' '\n' | wc -l)" -ge 40 ]; ! grep -i 'error\|drastic' "$OUT/said"; [ -z "$(ls -A)" ] || fail "files are left"

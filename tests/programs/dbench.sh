# Dbench's clients go through their load without an error.
. "${0%/*}/prelude.sh"

dbench -D . -t $((2 * ROUNDS)) -c /usr/share/dbench/client.txt 4 >"$OUT/said" 2>&1 || fail "$(tail -n 20 "$OUT/said")"
grep -q '^Throughput' "$OUT/said"; ! grep -i 'error\|failed\|unexpected' "$OUT/said"

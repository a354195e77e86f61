# Rsync -A says which files have an ACL, which is refused, ends with 23, and has copied everything else.
. "${0%/*}/prelude.sh"

mkdir -p "$OUT/s/d"; echo plain >"$OUT/s/plain"; echo more >"$OUT/s/d/more"; echo named >"$OUT/s/named"
setfacl -m u:12345:r "$OUT/s/named" || { echo "the directory outside has no ACLs: nothing to copy" >&2; exit 0; }
code=0; rsync -aHAX "$OUT/s/" t 2>"$OUT/said" || code=$?; [ $code = 23 ] || fail "rsync ended with $code"
grep -q 'named.*Operation not supported\|Operation not supported.*named' "$OUT/said" || fail "it did not say which: $(cat "$OUT/said")"
! grep -q plain "$OUT/said"; diff -r "$OUT/s" t; rsync -aHX "$OUT/s/" t
if setfacl -m u:12345:r t/plain 2>"$OUT/said"; then fail "an ACL was taken"; fi; grep -q 'Operation not supported' "$OUT/said"
rsync -aHAX t/ "$OUT/back"; diff -r t "$OUT/back"

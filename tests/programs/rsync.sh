# Rsync -aHAX --checksum copies in and out, finds nothing to do again, and takes up changes.
. "${0%/*}/prelude.sh"

# -@-1: without it, rsync takes times within one second for the same.
make_tree "$OUT/s"; rsync -@-1 -aHAX --checksum "$OUT/s/" t; same "$OUT/s" t; diff <(attributes "$OUT/s") <(attributes t)
rsync -@-1 -aHAX --checksum t/ "$OUT/back"; same "$OUT/s" "$OUT/back"; diff <(attributes "$OUT/s") <(attributes "$OUT/back")
[ "$(stat -c %h t/large)" = 2 ] && [ t/large -ef t/deep/hard ] || fail "a hard link is lost"
[ -z "$(rsync -@-1 -aHAXin --checksum "$OUT/s/" t)$(rsync -@-1 -aHAXin --checksum t/ "$OUT/s")" ] || fail "the second run finds something to do"
echo more >>"$OUT/s/large"; rm "$OUT/s/deep/er/5"; mv "$OUT/s/deep/er/6" "$OUT/s/six"
rsync -@-1 -aHAX --delete "$OUT/s/" t; same "$OUT/s" t; dd if=/dev/urandom of=t/sparse bs=1 count=9 seek=4000000 conv=notrunc status=none
rsync -@-1 -aHAX --inplace --no-whole-file --checksum t/ "$OUT/s"; same t "$OUT/s"; rsync -@-1 -aHS --delete "$OUT/s/" sparse; same "$OUT/s" sparse

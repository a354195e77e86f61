# A tree goes through tar into the mount and out of it, with attributes, links and holes.
. "${0%/*}/prelude.sh"

make_tree "$OUT/s"; flags=(--xattrs --xattrs-include=user.* --sparse --format=posix)
tar c "${flags[@]}" -C "$OUT/s" . | (mkdir in && tar xp "${flags[@]}" -C in); same "$OUT/s" in
tar cf archive.tar "${flags[@]}" -C in .; tar df archive.tar -C "$OUT/s"; mkdir "$OUT/back"; tar xpf archive.tar "${flags[@]}" -C "$OUT/back"
same in "$OUT/back"; diff <(attributes "$OUT/s") <(attributes "$OUT/back"); tar czf archive.tgz --format=posix -C "$OUT/s" .; mkdir zip; tar xpzf archive.tgz -C zip; same "$OUT/s" zip
[ "$(stat -c %b in/sparse)" -lt 1000 ] || fail "holes are filled"

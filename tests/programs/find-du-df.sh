# Find, du and df tell what is there, and df what came and went.
. "${0%/*}/prelude.sh"

# fsync of the root directory waits until everything is committed: only then is what was freed free for others.
root=$(stat -c %m .); settle() { sync "$root"; }; used() { df --output=used -B1 . | tail -n 1; }
for i in $(seq 20); do mkdir -p a$i/b/c; for k in $(seq 10); do head -c $((k * 1000)) /dev/zero | tr '\0' x >a$i/b/c/$k; done; done
settle; before=$(used)
[ "$(find . -type f | wc -l)" = 200 ] && [ "$(find . -type d | wc -l)" = 61 ] && [ "$(find . -type f -size +8k | wc -l)" = 40 ] || fail find
[ "$(find . -newer a1/b/c/1 -type f | wc -l)" -ge 150 ] && [ "$(find . -inum "$(stat -c %i a3/b/c/4)")" = ./a3/b/c/4 ] || fail "find by times and numbers"
[ "$(find . -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')" = 1100000 ] || fail "sizes"
[ "$(du -sb --apparent-size . | cut -f 1)" -ge 1100000 ] || fail "du -b"; kib=$(du -sk . | cut -f 1); [ "$kib" -ge 1100 ] && [ "$kib" -le 2200 ] || fail "du -k: $kib"
head -c 20000000 /dev/urandom >large; settle; full=$(used); [ $((full - before)) -ge 20000000 ] && [ $((full - before)) -le 24000000 ] || fail "df: $before, then $full"
[ "$(du -B1 large | cut -f 1)" -ge 20000000 ]; rm large; settle; settle; after=$(used); [ $((after - before)) -le 2000000 ] || fail "df: $before, after rm $after"
inodes() { df --output=iused . | tail -n 1; }; files=$(inodes); touch new; [ "$(inodes)" -eq $((files + 1)) ] || fail "inodes"
truncate -s 1T hole; [ "$(du -k hole | cut -f 1)" -lt 100 ]; find . -delete; [ -z "$(ls -A)" ]

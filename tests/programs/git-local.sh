# Git clones a repository of the mount beside it, by hard links and by copies, with work trees and branches.
. "${0%/*}/prelude.sh"

git init -q -b main one; for i in $(seq $((60 * ROUNDS))); do echo "$i $RANDOM" >one/$i; done
git -C one add .; git -C one commit -qm one; git -C one branch other; git -C one rm -q 7; git -C one commit -qm two
git clone -q one linked; [ -n "$(find linked/.git/objects -type f -links 2)" ] || fail "no object is shared"
git clone -q --no-local one copied; git clone -q --bare one bare
git -C linked worktree add -q ../tree origin/other; [ -e tree/7 ] || fail "the work tree has another branch"
for clone in linked copied bare tree; do
  git -C $clone fsck --full --strict
  [ "$(git -C $clone rev-parse --verify -q origin/main || git -C $clone rev-parse main)" = "$(git -C one rev-parse main)" ] || fail "$clone"
done
# Several processes write objects of one repository at once.
pids=(); for n in 1 2 3 4; do
  (for i in $(seq $((10 * ROUNDS))); do echo "$n $i" | git -C bare hash-object -w --stdin; done >"$OUT/hashes.$n") & pids+=($!)
done; all "${pids[@]}"
cat "$OUT"/hashes.* | git -C bare cat-file --batch-check | grep -c ' blob ' | grep -qx $((40 * ROUNDS))
git -C one gc -q --aggressive --prune=now; git -C one fsck --full --strict; git -C copied pull -q; rm -rf one; git -C linked fsck --full --strict
[ -z "$(git -C linked status --porcelain)$(git -C copied status --porcelain)" ] || fail "not clean"

# Git clones from outside, checks out branches, commits, pushes, collects garbage; every object is whole.
. "${0%/*}/prelude.sh"

source="$OUT/source"; git init -q -b main "$source"
for i in $(seq $((20 * ROUNDS))); do
  mkdir -p "$source/d$((i % 5))"; head -c $((i * 1777 % 50000)) /dev/urandom | base64 >"$source/d$((i % 5))/f$i"
  ln -sf "d0/f$i" "$source/newest"; git -C "$source" add -A; git -C "$source" commit -qm "commit $i"
  [ $((i % 10)) != 0 ] || git -C "$source" branch "branch-$i"
done
chmod +x "$source/d1/f1"; git -C "$source" commit -qam "a mode"
git clone -q "file://$source" work; git -C work fsck --full --strict
cd work
for branch in $(git -C "$source" for-each-ref --format='%(refname:short)' refs/heads); do
  git checkout -q "$branch"; [ -z "$(git status --porcelain)" ] || fail "$branch is not clean"
  git -C "$source" checkout -q "$branch"; diff -r --no-dereference -x .git "$source" .
done
git checkout -qb topic; for i in $(seq 20); do echo $i >>d1/more; git add -A; git commit -qm $i; done
git rebase -q --onto main HEAD~10 2>/dev/null || { git checkout -q --theirs . ; git rebase --abort; }
git -c gc.auto=0 gc -q --prune=now; git fsck --full --strict; git push -q origin topic
[ "$(git rev-parse topic)" = "$(git -C "$source" rev-parse topic)" ] || fail "push lost something"
git repack -q -a -d -f; git fsck --full --strict; [ -z "$(git status --porcelain)" ] || fail "not clean"

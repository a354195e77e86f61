#!/usr/bin/env bash
# The main job on real files: a container on a TLS server on loopback, mounted, filled by ordinary programs, checked.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
. "$root/tests/setup.sh"
setup_packages fusermount3:fuse3 sqlite3:sqlite3
(cd "$root" && deno install --quiet --frozen)

work=$(mktemp -d)
server=
coverfs() { deno run --quiet --allow-all --no-check --config "$root/deno.json" "$root/main.ts" "$@"; }
say() { printf '\n== %s\n' "$*"; }
finish() {
  local code=$?
  if mountpoint -q "$work/mnt" 2>/dev/null; then coverfs umount "$work/mnt" || umount -l "$work/mnt" || true; fi
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  [ -z "$server" ] || wait "$server" 2>/dev/null || true
  rm -rf "$work"
  exit $code
}
trap finish EXIT
export XDG_STATE_HOME="$work/state" COVERFS_PASSFILE="$work/passphrase"
mkdir "$work/mnt" "$work/server"
(umask 077 && head -c 24 /dev/urandom | base64 >"$work/passphrase")

say "a server on loopback that knows no keys"
deno run --quiet --allow-all --no-check --config "$root/deno.json" "$root/main.ts" \
  serve --root "$work/server" --host 127.0.0.1 --port 0 >"$work/server.log" 2>&1 &
server=$!
for _ in $(seq 100); do
  grep -q '^Link' "$work/server.log" && break
  kill -0 "$server"
  sleep 0.1
done
link=$(grep -o 'coverfs://[^ ]*' "$work/server.log")
echo "listening on $(sed -E 's/.*@([^/]*).*/\1/' <<<"$link")"

say "an empty container there"
coverfs init "$link"
export COVERFS_CONTAINER="$link"

tree=/usr/share/doc
[ "$(find /usr/include -type f 2>/dev/null | wc -l)" -ge 1000 ] && tree=/usr/include
# Names that exist nowhere else show whether the container tells any.
mkdir -p "$work/tree"
cp -a "$tree/." "$work/tree/"
word="marker-$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')"
awk -v line="$word is the content" 'BEGIN { for (i = 0; i < 2000; i++) print line }' >"$work/tree/$word.txt"
files=$(find "$work/tree" -type f | wc -l)

if [ -c /dev/fuse ] && command -v fusermount3 >/dev/null; then
  say "mounted, and $files files copied in by cp -a"
  coverfs mount "$work/mnt"
  cp -a "$work/tree" "$work/mnt/tree"
  diff -r --no-dereference "$work/tree" "$work/mnt/tree"
  echo "diff -r: equal"
  if command -v sqlite3 >/dev/null; then
    say "a database written by sqlite3 on the mount"
    sqlite3 "$work/mnt/notes.db" "create table notes(text); insert into notes values('kept'); pragma integrity_check;"
  fi
  df -h "$work/mnt" | tail -n 1
  say "unmounted: everything is committed"
  coverfs umount "$work/mnt"
else
  say "this machine cannot mount (no /dev/fuse or no fusermount3): left out; $files files go in without mounting"
  coverfs put -r "$work/tree" /
fi

say "fsck --scrub verifies every block"
coverfs fsck --scrub
say "a file without mounting"
coverfs cat "/tree/$word.txt" | sed -n 1p
coverfs cat "/tree/$word.txt" | cmp - "$work/tree/$word.txt"

say "what the server has"
container=$(find "$work/server" -maxdepth 1 -type f)
ls -l "$container" | awk '{print $5 " bytes in one file"}'
if grep -q -a "$word" "$container"; then
  echo "the container shows plaintext or a name"
  exit 1
fi
echo "neither the content nor the name of that file is in it"
say "done"

# Sourced by every case: errors end it, and functions that several use. `$OUT` is an empty directory of another
# filesystem, `$ROUNDS` says how much is to be done, and the script runs in an empty directory of the mount.
set -euo pipefail
export LC_ALL=C GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e
# Nothing of git goes on in the background: the mount would be in use.
export GIT_CONFIG_COUNT=2 GIT_CONFIG_KEY_0=gc.autoDetach GIT_CONFIG_VALUE_0=false
export GIT_CONFIG_KEY_1=maintenance.autoDetach GIT_CONFIG_VALUE_1=false
fail() { echo "$*" >&2; exit 1; }
# Names, kinds, modes, links, owners, sizes, times and targets of a tree; the size of a directory is the filesystem's own.
tree() {
  (cd "$1" && find . -type d -printf '%P %y %m %U %G %T@\n' -o -printf '%P %y %m %n %U %G %s %T@ %l\n' | sort)
}
# diff says of any two pipes that they differ: the trees are compared by what they are.
same() { diff -r --no-dereference -x pipe "$1" "$2"; diff <(tree "$1") <(tree "$2"); }
# A tree with what a tree may have: names of any bytes, holes, links, attributes, old times, modes.
make_tree() {
  mkdir -p "$1/deep/er/and/deeper" "$1/empty"; local i
  for i in $(seq $((100 * ROUNDS))); do head -c $((i * 397 % 100003)) /dev/urandom >"$1/deep/er/$i"; done
  head -c 3000001 /dev/urandom >"$1/large"; truncate -s 5000000 "$1/sparse"; printf x >>"$1/sparse"
  printf 1 >"$1/deep/$(printf 'caf\303\251')"; printf 2 >"$1/deep/$(printf 'raw\377\001')"; printf 3 >"$1/deep/new
line"; printf 4 >"$1/deep/ * -\\\"'"
  ln "$1/large" "$1/deep/hard"; ln "$1/deep/er/1" "$1/empty/hard"; ln -s ../large "$1/deep/link"; ln -s nowhere "$1/dangling"
  mkfifo "$1/pipe"; chmod 4711 "$1/deep/er/2"; chmod 1777 "$1/empty"; chmod 000 "$1/deep/er/3"
  setfattr -n user.note -v "some value" "$1/large"; setfattr -n user.note -v dir "$1/deep"
  touch -d '1965-02-03 04:05:06.123456789' "$1/deep/er/4"; touch -h -d '2038-01-19 03:14:08.5' "$1/deep/link" "$1/deep/er"
}
attributes() { (cd "$1" && getfattr -R -h -d -m '^user' . | sort); }
# Waits for every process named; one that failed fails the case.
all() { local pid bad=0; for pid; do wait "$pid" || bad=1; done; [ $bad = 0 ] || fail "one of several processes failed"; }

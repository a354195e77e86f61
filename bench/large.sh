#!/usr/bin/env bash
# What needs size: a sparse file of 5 GiB and a written one of 4.5 GiB, read back by hash, and 100 000 small files, on
# a mount. `deno task bench:large [FOLDER]`: the container lies in FOLDER (default: the folder for temporary files),
# which needs 10 GB. Prints "name value unit" lines and ends with an error where a limit is passed or a hash differs.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
. "$root/tests/setup.sh"
setup_packages fusermount3:fuse3 python3:python3
(cd "$root" && deno install --quiet --frozen)
work=$(mktemp -d -p "${1:-${TMPDIR:-/tmp}}")
export XDG_STATE_HOME="$work/state"
mnt="$work/mnt"
coverfs() { deno run --quiet --allow-all --no-check --config "$root/deno.json" "$root/main.ts" "$@"; }
finish() {
  if mountpoint -q "$mnt"; then umount -l "$mnt"; fi
  rm -rf "$work"
}
trap finish EXIT
mkdir "$mnt"
echo "bench passphrase" >"$work/pass"

begin() {
  container="$work/$1"
  coverfs init --passfile "$work/pass" --kdf-rounds 210000 "$container" >/dev/null
}
# Mounts; prints how long that took if it has a name for it.
mounted() {
  local start=$EPOCHREALTIME
  coverfs mount --passfile "$work/pass" "$container" "$mnt"
  if [ -n "${1:-}" ]; then python3 -c "print('$1', round($EPOCHREALTIME - $start, 2), 's')"; fi
}
# Memory of the process that mounts, in MB: what it has now (VmRSS), or had at most (VmHWM).
memory() {
  local pid
  pid=$(python3 -c "import glob, json; print(json.load(open(glob.glob('$work/state/coverfs/mounts/*')[0]))['pid'])")
  awk -v name="$2" "/^$1:/ { printf \"%s %.0f MB\n\", name, \$2 / 1024 }" "/proc/$pid/status"
}
remount() {
  coverfs umount "$mnt"
  mounted "${1:-}"
}
check() {
  coverfs umount "$mnt"
  coverfs fsck --scrub --passfile "$work/pass" "$container" >/dev/null
  rm "$container"
}

{
  for kind in sparse written; do
    begin "$kind"
    mounted
    python3 "$root/bench/large.py" write "$kind" "$mnt"
    memory VmHWM "$kind-write-memory"
    remount
    python3 "$root/bench/large.py" check "$kind" "$mnt"
    memory VmHWM "$kind-read-memory"
    echo "$kind-container $(($(stat -c %s "$container") / 1000000)) MB"
    check
  done
  begin many
  mounted
  python3 "$root/bench/large.py" write many "$mnt"
  remount many-mount
  memory VmRSS many-memory
  python3 "$root/bench/large.py" check many "$mnt"
  memory VmRSS many-memory-after
  check
} | tee "$work/figures"

python3 - "$work/figures" <<'P'
import sys

LIMITS = {"many-mount": 5, "many-memory": 500, "many-memory-after": 500, "many-lsR": 15}
figures = {line.split()[0]: float(line.split()[1]) for line in open(sys.argv[1])}
late = [f"{name} is {figures[name]}, at most {most}" for name, most in LIMITS.items() if figures[name] > most]
sys.exit("\n".join(late))
P

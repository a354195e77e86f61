#!/usr/bin/env bash
# coverfs beside gocryptfs on one machine in one run, both backed by tmpfs, in turns: `deno task bench [ROUNDS] [SCALE]`.
# Prints the medians and the ratios; needs root, for mounting and for dropping caches.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
rounds=${1:-3} scale=${2:-1}
. "$root/tests/setup.sh"
setup_packages fusermount3:fuse3 gocryptfs:gocryptfs python3:python3
(cd "$root" && deno install --quiet --frozen)
work=$(mktemp -d -p /dev/shm)
export XDG_STATE_HOME="$work/state" BENCH_LOCAL="$work/local"
coverfs() { deno run --quiet --allow-all --no-check --config "$root/deno.json" "$root/main.ts" "$@"; }
finish() {
  for mounted in "$work"/*/mnt; do if mountpoint -q "$mounted"; then umount -l "$mounted"; fi; done
  rm -rf "$work"
}
trap finish EXIT
echo "bench passphrase" >"$work/pass"

for suite in aes-256-cbc-hmac-sha256 aes-256-gcm; do
  mkdir -p "$work/$suite/mnt"
  coverfs init --passfile "$work/pass" --suite "$suite" --kdf-rounds 210000 "$work/$suite/container" >/dev/null
done
mkdir -p "$work/gocryptfs/cipher" "$work/gocryptfs/mnt"
gocryptfs -q -init -scryptn 10 -passfile "$work/pass" "$work/gocryptfs/cipher" >/dev/null

for round in $(seq "$rounds"); do
  for suite in aes-256-cbc-hmac-sha256 aes-256-gcm; do
    coverfs mount --passfile "$work/pass" "$work/$suite/container" "$work/$suite/mnt"
    python3 "$root/bench/work.py" "$work/$suite/mnt" "$scale" | sed "s/^/$suite /"
    coverfs umount "$work/$suite/mnt"
  done
  gocryptfs -q -passfile "$work/pass" "$work/gocryptfs/cipher" "$work/gocryptfs/mnt"
  python3 "$root/bench/work.py" "$work/gocryptfs/mnt" "$scale" | sed "s/^/gocryptfs /"
  umount "$work/gocryptfs/mnt"
  echo "round $round of $rounds done" >&2
done >"$work/figures"

python3 - "$work/figures" <<'P'
import statistics
import sys

figures = {}
for line in open(sys.argv[1]):
    who, name, value, unit = line.split()
    figures.setdefault((name, unit), {}).setdefault(who, []).append(float(value))
print("| work | cbc-hmac | gcm | gocryptfs | cbc-hmac : gocryptfs | gcm : gocryptfs |")
print("| --- | --- | --- | --- | --- | --- |")
for (name, unit), by in figures.items():
    ours = [statistics.median(by[s]) for s in ("aes-256-cbc-hmac-sha256", "aes-256-gcm")]
    theirs = statistics.median(by["gocryptfs"])
    better = [theirs / max(one, 1e-9) if unit == "s" else one / max(theirs, 1e-9) for one in ours]
    cells = [f"{one:.2f}" if unit == "s" else f"{one:.0f}" for one in [*ours, theirs]]
    print(f"| {name}, {unit} | {' | '.join(cells)} | {' | '.join(f'{one:.2f} ×' for one in better)} |")
P

# Programs that count in one file under flock, under POSIX locks and under OFD locks lose no count.
. "${0%/*}/prelude.sh"

echo 0 >counter; each=$((20 * ROUNDS)); pids=()
for n in 1 2 3 4; do
  (for i in $(seq $each); do flock counter.lock sh -c 'read n <counter; echo $((n + 1)) >counter'; done) & pids+=($!)
done; all "${pids[@]}"; [ "$(cat counter)" = $((4 * each)) ] || fail "flock: $(cat counter) of $((4 * each))"
cat >count.py <<'END'
import fcntl, os, struct, sys
kind, each = sys.argv[1], int(sys.argv[2])
fd = os.open('numbers', os.O_RDWR)
def lock(how, at):
    if kind == 'posix': return fcntl.lockf(fd, how, 8, at)
    if kind == 'flock': return fcntl.flock(fd, how)
    types = {fcntl.LOCK_EX: fcntl.F_WRLCK, fcntl.LOCK_UN: fcntl.F_UNLCK}
    fcntl.fcntl(fd, 38, struct.pack('hhqqi4x', types[how], 0, at, 8, 0))  # F_OFD_SETLKW
for i in range(each):
    at = i % 4 * 8; lock(fcntl.LOCK_EX, at)
    n, = struct.unpack('<q', os.pread(fd, 8, at)); os.pwrite(fd, struct.pack('<q', n + 1), at); lock(fcntl.LOCK_UN, at)
END
for kind in flock posix ofd; do
  head -c 32 /dev/zero >numbers; pids=(); for n in 1 2 3 4; do python3 -IS count.py $kind $((200 * ROUNDS)) & pids+=($!); done; all "${pids[@]}"
  [ "$(od -An -v -t d8 -w8 numbers | sort -u | tr -d ' ')" = $((200 * ROUNDS)) ] || fail "$kind: $(od -An -t d8 numbers)"
done
flock -x counter.lock sleep 30 & holder=$!; until pgrep -P $holder >/dev/null; do kill -0 $holder; done
code=0; flock -n -E 9 counter.lock true || code=$?; [ $code = 9 ] || fail "a held lock was given"; pkill -P $holder; kill $holder 2>/dev/null || true; wait $holder || true
flock -w 10 counter.lock true || fail "a lock outlives its holder"

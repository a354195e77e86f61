# PostgreSQL keeps pgbench's books, ends at once as in a crash, and recovers with every checksum right.
. "${0%/*}/prelude.sh"

bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1); user=postgres; id -u $user >/dev/null 2>&1 || user=nobody
mkdir data "$OUT/socket"; chmod 700 data; chown $user data "$OUT/socket"; export HOME="$OUT/socket" PGHOST="$OUT/socket" PGDATABASE=postgres PGUSER=postgres
as() { setpriv --reuid=$user --regid="$(id -g $user)" --clear-groups "$@"; }
as "$bin/initdb" -D data -U postgres -A trust -k --no-instructions >"$OUT/initdb.log"
start() { as "$bin/pg_ctl" -D data -w -t 120 -l "$OUT/socket/log" -o "-c listen_addresses='' -k $OUT/socket -c wal_sync_method=$1" start >/dev/null; }
stop() { as "$bin/pg_ctl" -D data -w -m "$1" stop >/dev/null; }
trap 'code=$?; [ $code = 0 ] || { stop immediate 2>/dev/null || true; cat "$OUT/socket/log" "$OUT/bench" >&2; }' EXIT
sql() { as "$bin/psql" -qAtX -v ON_ERROR_STOP=1 -c "$1"; }
# Every transaction adds the same to an account, a teller, a branch and the history.
books() {
  [ "$(sql 'select count(*) from pgbench_history')" = "$1" ] || fail "history has not $1 lines"
  [ "$(sql 'select (select sum(abalance) from pgbench_accounts) = all (array[(select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history)])')" = t ] || fail "the books do not agree"
}
each=$((40 * ROUNDS)); done=0
start fdatasync; as "$bin/pgbench" -q -i -s 2 >/dev/null 2>&1
as "$bin/pgbench" -n -c 4 -j 2 -t $each >"$OUT/bench" 2>&1; done=$((done + 4 * each)); books $done
stop immediate; start open_datasync; books $done
as "$bin/pgbench" -n -c 4 -j 2 -t $each >>"$OUT/bench" 2>&1; done=$((done + 4 * each)); books $done
for statement in 'vacuum full' 'reindex database postgres' checkpoint 'create extension amcheck'; do sql "$statement"; done
[ "$(sql "select count(bt_index_parent_check(oid, true)) > 0 from pg_class where relkind = 'i' and relam = 403 and relpersistence = 'p'")" = t ] || fail amcheck
books $done; stop fast; as "$bin/pg_checksums" --check -D data >"$OUT/sums"; grep -q 'Bad checksums: *0' "$OUT/sums"

# Several processes write one sqlite database, with the journal that $1 names: no transaction is lost or halved.
. "${0%/*}/prelude.sh"

journal=$1
sql() { sqlite3 -bail -cmd '.timeout 60000' db "$@"; }
[ "$(sql "pragma journal_mode=$journal")" = $journal ] || fail "the journal is another one"
sql 'create table total(n integer); insert into total values(0); create table item(writer, n, body, primary key(writer, n)) without rowid'
each=$((25 * ROUNDS)); pids=()
for n in 1 2 3 4; do
  (for i in $(seq $each); do echo "begin immediate; insert into item values($n, $i, hex(randomblob(400))); update total set n = n + $i; commit;"
    [ $((i % 7)) != 0 ] || echo "begin immediate; update total set n = 0; delete from item; rollback;"; done | sql >/dev/null) & pids+=($!)
done
# A reader sees whole transactions at any time.
(while :; do
  row=$(sql 'select (select n from total) - (select coalesce(sum(n), 0) from item), count(*) from item'); [ "${row%|*}" = 0 ] || fail "half a transaction: $row"
  [ "${row#*|}" != $((4 * each)) ] || break
done) & pids+=($!); all "${pids[@]}"
[ "$(sql 'select count(*), sum(n), (select n from total) from item')" = "$((4 * each))|$((2 * each * (each + 1)))|$((2 * each * (each + 1)))" ] || fail "something is lost"
sql 'delete from item where n % 3 = 0; vacuum'; [ "$(sql 'pragma integrity_check')" = ok ] || fail "the database is damaged"
sql .dump >dump; sqlite3 "$OUT/outside" <dump; sqlite3 "$OUT/outside" .dump | cmp - dump
[ ! -e db-journal ] && [ ! -e db-wal ] || [ ! -s db-journal ] || fail "a journal is left"

# An editor's save replaces a file whole at any moment: temporary file, fsync, rename; vim's and sed's, too.
. "${0%/*}/prelude.sh"

python3 -IS - "$ROUNDS" <<'END'
import os, sys
def save(name, text):
    fd = os.open(name + '.tmp', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.write(fd, text); os.fchmod(fd, os.stat(name).st_mode & 0o7777); os.fsync(fd); os.close(fd)
    os.rename(name + '.tmp', name); d = os.open('.', os.O_RDONLY); os.fsync(d); os.close(d)
open('text', 'w').close(); os.chmod('text', 0o640); save('text', b'%05d' % 0 * 2000)
reader, writer = os.pipe(); pids = []
for n in range(3):
    pid = os.fork()
    if not pid:
        os.close(writer); os.set_blocking(reader, False); last = 0
        while True:
            try: end = os.read(reader, 1) == b''
            except BlockingIOError: end = False
            with open('text', 'rb') as f: text = f.read()
            now = int(text[:5]); assert text == text[:5] * 2000 and now >= last, (last, text[:9], len(text)); last = now
            if end: os._exit(0 if last == 60 * int(sys.argv[1]) else 3)
    pids.append(pid)
for i in range(1, 60 * int(sys.argv[1]) + 1): save('text', b'%05d' % i * 2000)
os.close(writer)
for pid in pids: assert os.waitpid(pid, 0)[1] == 0
assert os.stat('text').st_mode & 0o777 == 0o640 and os.listdir('.') == ['text']
END
printf 'one\ntwo\nthree\n' >notes; command -v vim >/dev/null || exit 0
chmod 750 notes; ln notes hard; edit() { vim -es -u NONE -i NONE "$@" notes </dev/null; }
edit -c 'set backup writebackup backupcopy=yes backupext=.old backupskip= fsync swapfile swapsync=fsync' -c '2s/two/2/' -c 'wq'
[ "$(cat notes)" = "$(printf 'one\n2\nthree')" ] && [ notes -ef hard ] && [ "$(stat -c %a notes)" = 750 ] || fail "vim, in place"
[ "$(cat notes.old)" = "$(printf 'one\ntwo\nthree')" ] || fail "vim's backup"
edit -c 'set nobackup writebackup backupcopy=no backupskip= fsync' -c '$d' -c 'wq'; [ "$(cat notes)" = "$(printf 'one\n2')" ] || fail "vim, by rename"
[ ! notes -ef hard ] && [ "$(stat -c %a notes)" = 750 ] && [ "$(wc -l <hard)" = 3 ] || fail "vim, by rename: links or mode"
sed -i.bak 's/one/1/' notes; [ "$(cat notes)" = "$(printf '1\n2')" ] && [ "$(head -n 1 notes.bak)" = one ] || fail "sed -i"
[ "$(ls -A)" = "$(printf 'hard\nnotes\nnotes.bak\nnotes.old\ntext')" ] || fail "something is left: $(ls -A)"

/**
 * What programs expect of a local filesystem, as named checks that run in a directory of a mounted one. Each is a
 * script of its own process, because the process that mounts must not wait for its own mount.
 */

/** One check; its script runs in an empty directory of its own and ends with an error if something is wrong. */
export interface PosixCheck {
  readonly language: "sh" | "python";
  readonly script: string;
  /** Needs rights that only root has, and a mount that lets other users in. */
  readonly root?: boolean;
  /** Needs shared writable mappings, which a mount without page cache has only with libfuse 3.16 and later. */
  readonly mapping?: boolean;
  /** Needs a mount that tells where holes are: with the write-back cache the kernel takes all as data. */
  readonly holes?: boolean;
}

type Needs = Omit<PosixCheck, "language" | "script">;

function sh(script: string, needs: Needs = {}): PosixCheck {
  return { language: "sh", script: `set -eu\n${script}`, ...needs };
}

const PYTHON_PRELUDE = `
import ctypes, errno, fcntl, mmap, os, random, stat, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def fails(code, f, *a, **k):
    try: f(*a, **k)
    except OSError as e: assert e.errno == code, (errno.errorcode[e.errno], errno.errorcode[code])
    else: raise AssertionError('did not fail with ' + errno.errorcode[code])
def put(name, data=b'', mode='wb'):
    with open(name, mode) as f: f.write(data)
def get(name):
    with open(name, 'rb') as f: return f.read()
`;

function python(script: string, needs: Needs = {}): PosixCheck {
  return { language: "python", script: PYTHON_PRELUDE + script, ...needs };
}

/** All checks by what they claim. */
export const POSIX_CHECKS: Readonly<Record<string, PosixCheck>> = {
  "cp -a keeps contents, modes, times, links and symlinks": sh(`
    mkdir -p s/d/e; printf one >s/a; printf two >s/d/b; ln s/a s/d/hard; ln -s ../a s/d/sym; mkfifo s/d/e/fifo
    chmod 750 s/d; chmod 4711 s/a; touch -d '2001-02-03 04:05:06.123456789' s/a s/d/b s/d/e
    cp -a s t; diff -r --no-dereference -x fifo s t; test -p t/d/e/fifo; test t/a -ef t/d/hard
    for f in . a d d/b d/e; do test "$(stat -c '%A %Y %y %s %h' s/$f)" = "$(stat -c '%A %Y %y %s %h' t/$f)"; done
    test "$(readlink t/d/sym)" = ../a`),
  "mv moves files and directories, and refuses to move a directory into itself": sh(`
    mkdir a b; echo 1 >a/f; mv a/f b/g; test ! -e a/f; test "$(cat b/g)" = 1; mv b a/c; test "$(cat a/c/g)" = 1
    test "$(stat -c %h a)" = 3; if mv a a/c/ 2>/dev/null; then exit 1; fi; mv a/c .; test "$(stat -c %h a)" = 2
    test "$(stat -c %i .)" = "$(stat -c %i c/..)"`),
  "rename() replaces a file whole and an empty directory, and nothing else": python(`
put('a', b'new'); put('b', b'old'); os.rename('a', 'b'); assert get('b') == b'new' and not os.path.exists('a')
os.mkdir('d'); os.mkdir('e'); os.mkdir('e/full'); os.rename('d', 'e/full'); assert os.listdir('.') .count('d') == 0
os.mkdir('d'); fails(errno.ENOTEMPTY, os.rename, 'd', 'e'); fails(errno.EISDIR, os.rename, 'b', 'd')
fails(errno.ENOTDIR, os.rename, 'd', 'b'); fails(errno.EINVAL, os.rename, 'e', 'e/full/x')
fails(errno.ENOENT, os.rename, 'none', 'x'); os.link('b', 'c'); os.rename('b', 'c'); assert os.path.exists('b')
`),
  "renameat2() exchanges names and refuses to replace": python(`
def rename2(a, b, flags):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), flags): raise OSError(ctypes.get_errno(), a)
put('a', b'A'); os.mkdir('d'); put('d/x', b'X'); fails(errno.EEXIST, rename2, 'a', 'd', 1)
rename2('a', 'd', 2); assert get('d') == b'A' and get('a/x') == b'X'; rename2('d', 'n', 1); assert get('n') == b'A'
rename2('n', 'a/x', 2); assert get('n') == b'X' and get('a/x') == b'A'; fails(errno.ENOENT, rename2, 'n', 'none', 2)
`),
  "hard links are one file under several names": python(`
put('a', b'1'); os.mkdir('d'); os.link('a', 'd/b'); a, b = os.stat('a'), os.stat('d/b')
assert a.st_ino == b.st_ino and a.st_nlink == b.st_nlink == 2; put('d/b', b'22'); assert get('a') == b'22'
os.unlink('a'); assert os.stat('d/b').st_nlink == 1; fails(errno.EEXIST, os.link, 'd/b', 'd')
fails(errno.EPERM, os.link, 'd', 'e'); os.chmod('d/b', 0o600); os.link('d/b', 'c'); assert os.stat('c').st_mode & 0o777 == 0o600
`),
  "symlinks are kept as they are and followed": python(`
put('f', b'x'); os.symlink('f', 's'); assert os.readlink('s') == 'f' and get('s') == b'x'
os.symlink('none', 'dangling'); fails(errno.ENOENT, os.stat, 'dangling'); assert stat.S_ISLNK(os.lstat('dangling').st_mode)
long = 'x/' * 2000; os.symlink(long, 'long'); assert os.readlink('long') == long and os.lstat('long').st_size == 4000
os.symlink('loop', 'loop'); fails(errno.ELOOP, os.stat, 'loop'); os.symlink(b'\\xff\\xfe', b'raw'); assert os.readlink(b'raw') == b'\\xff\\xfe'
`),
  "truncate() cuts, and what it adds is zero": python(`
put('f', bytes(range(256)) * 64); os.truncate('f', 5000); os.truncate('f', 20000); d = get('f')
assert len(d) == 20000 and d[:5000] == (bytes(range(256)) * 64)[:5000] and not any(d[5000:])
os.truncate('f', 0); assert get('f') == b''; fails(errno.EISDIR, os.truncate, '.', 0)
fd = os.open('f', os.O_RDWR); os.write(fd, b'abc'); os.ftruncate(fd, 1); assert os.fstat(fd).st_size == 1
os.truncate('f', 2**40 + 1); assert os.stat('f').st_size == 2**40 + 1; assert os.pread(fd, 9, 2**40 - 4) == bytes(5)
put('g', b'x' * 9000); m = os.stat('g').st_mtime_ns; open('g', 'w').close(); assert os.stat('g').st_size == 0 and os.stat('g').st_mtime_ns >= m
`),
  "sparse files take no room for their holes": python(`
fd = os.open('f', os.O_CREAT | os.O_RDWR); os.pwrite(fd, b'end', 2**33); os.fsync(fd); s = os.fstat(fd)
assert s.st_size == 2**33 + 3 and s.st_blocks * 512 < 1 << 20, s.st_blocks
assert os.pread(fd, 8192, 12345) == bytes(8192) and os.pread(fd, 10, 2**33 - 1) == b'\\0end'
`),
  "O_APPEND writes of several processes never overwrite each other": python(`
pids = []
for n in range(4):
    pid = os.fork()
    if not pid:
        fd = os.open('f', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for i in range(100): os.write(fd, b'%d:%03d\\n' % (n, i))
        os._exit(0)
    pids.append(pid)
for p in pids: assert os.waitpid(p, 0)[1] == 0
lines = get('f').split(); assert len(lines) == 400 and len(set(lines)) == 400
for n in range(4): assert [l for l in lines if l[:1] == b'%d' % n] == [b'%d:%03d' % (n, i) for i in range(100)]
`),
  "a file that is open lives on without a name": python(`
fd = os.open('f', os.O_CREAT | os.O_RDWR); os.write(fd, b'alive'); os.unlink('f'); assert os.listdir('.') == []
os.write(fd, b' still'); assert os.pread(fd, 99, 0) == b'alive still' and os.fstat(fd).st_nlink == 0
os.ftruncate(fd, 3); assert os.pread(fd, 99, 0) == b'ali'; put('f', b'other'); assert os.pread(fd, 9, 0) == b'ali'
os.mkdir('d'); d = os.open('d', os.O_RDONLY); os.rmdir('d'); assert os.listdir(d) == []
fails(errno.ENOENT, os.open, 'x', os.O_CREAT | os.O_WRONLY, dir_fd=d)
put('a'); put('b', b'b'); fd = os.open('b', os.O_RDONLY); os.rename('a', 'b'); assert os.read(fd, 9) == b'b'
`),
  "readdir() gives each of 5000 entries once, from any telldir() position on": python(`
class Dirent(ctypes.Structure):
    _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('len', ctypes.c_ushort), ('type', ctypes.c_ubyte), ('name', ctypes.c_char * 256)]
libc.opendir.restype = ctypes.c_void_p; libc.readdir.restype = ctypes.POINTER(Dirent); libc.readdir.argtypes = [ctypes.c_void_p]
libc.telldir.restype = ctypes.c_long; libc.telldir.argtypes = [ctypes.c_void_p]; libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
os.mkdir('d')
for i in range(5000): os.close(os.open('d/file-%05d' % i, os.O_CREAT | os.O_WRONLY))
D = libc.opendir(b'd'); seen = []; at = []
while True:
    at.append(libc.telldir(D)); e = libc.readdir(D)
    if not e: break
    seen.append(e.contents.name)
assert len(seen) == len(set(seen)) == 5002 and sorted(seen)[:2] == [b'.', b'..'], len(seen)
for i in random.Random(7).sample(range(5002), 60) + [0, 1, 2, 5001]:
    libc.seekdir(D, at[i]); assert libc.readdir(D).contents.name == seen[i], i
    if i < 5001: assert libc.readdir(D).contents.name == seen[i + 1]
libc.rewinddir.argtypes = [ctypes.c_void_p]; libc.rewinddir(D); assert libc.readdir(D).contents.name == seen[0]
for e in os.scandir('d'): assert e.inode() == e.stat().st_ino
for i, e in enumerate(os.scandir('d')): os.unlink(e.path)
assert i == 4999 and os.listdir('d') == []; os.rmdir('d')
`),
  "entries that stay are listed though others come and go meanwhile": python(`
for i in range(1000): put('stay%d' % i)
for i in range(1000): put('go%d' % i)
it = os.scandir('.'); names = [next(it).name for _ in range(10)]
for i in range(1000): os.unlink('go%d' % i); put('new%d' % i)
names += [e.name for e in it]
assert [n for n in names if n.startswith('stay')].__len__() == 1000 and len(set(names)) == len(names)
`),
  "listing a directory ends though each entry that it gives is renamed, and rewinding gives the new names":
    python(`
for i in range(1000): put('a%d' % i)
D = os.open('.', os.O_RDONLY); count = 0
with os.scandir(D) as it:
    for e in it: count += 1; assert count < 1500; os.rename(e.name, 'b' + e.name)
names = os.listdir(D); assert len(names) == 1000 and all(n[0] == 'b' for n in names); put('c'); assert 'c' in os.listdir(D)
`),
  "chmod and utimensat keep all bits and nanoseconds": python(`
put('f'); os.chmod('f', 0o1624); assert os.stat('f').st_mode & 0o7777 == 0o1624
for ns in ((1, 2), (10**18 + 123456789, 2 * 10**18 + 987654321), (-5 * 10**9 + 7, -1), (2**33 * 10**9 + 1, 0)):
    os.utime('f', ns=ns); s = os.stat('f'); assert (s.st_atime_ns, s.st_mtime_ns) == ns, (ns, s)
c = os.stat('f').st_ctime_ns; time.sleep(0.01); os.chmod('f', 0o600); assert os.stat('f').st_ctime_ns > c
os.utime('f'); assert abs(os.stat('f').st_mtime - time.time()) < 5
m = os.stat('.').st_mtime_ns; time.sleep(0.01); put('g'); assert os.stat('.').st_mtime_ns > m
m = os.stat('g').st_mtime_ns; time.sleep(0.01); put('g', b'x', 'ab'); assert os.stat('g').st_mtime_ns > m
os.utime('g', ns=(5, 6)); put('g', b'yy', 'ab'); os.utime('g', ns=(7, 8)); time.sleep(0.01); assert os.stat('g').st_mtime_ns == 8
`),
  "chown changes owner and group, alone or together, and takes set-id bits away": python(
    `
put('f'); os.chown('f', 12, 34); os.chown('f', -1, 56); os.chown('f', 78, -1); s = os.stat('f'); assert (s.st_uid, s.st_gid) == (78, 56)
put('g'); os.chmod('g', 0o6755); os.chown('g', 1, 1); assert os.stat('g').st_mode & 0o7777 == 0o755
os.symlink('none', 's'); os.lchown('s', 4000000000, 5); assert os.lstat('s').st_uid == 4000000000
os.mkdir('d'); os.chown('d', 0, 77); os.chmod('d', 0o2775); put('d/f'); os.mkdir('d/d')
assert os.stat('d/f').st_gid == os.stat('d/d').st_gid == 77 and os.stat('d/d').st_mode & 0o2000
`,
    { root: true },
  ),
  "device nodes, sockets and FIFOs are kept with their numbers": python(
    `
import socket
os.mknod('c', 0o600 | stat.S_IFCHR, os.makedev(259, 70000)); os.mknod('b', 0o600 | stat.S_IFBLK, os.makedev(8, 1)); os.mkfifo('p')
s = os.stat('c'); assert stat.S_ISCHR(s.st_mode) and (os.major(s.st_rdev), os.minor(s.st_rdev)) == (259, 70000)
assert stat.S_ISBLK(os.stat('b').st_mode) and stat.S_ISFIFO(os.stat('p').st_mode)
k = socket.socket(socket.AF_UNIX); k.bind('s'); assert stat.S_ISSOCK(os.stat('s').st_mode)
`,
    { root: true },
  ),
  "statvfs tells sizes that fit together and follow what is written": python(`
s = os.statvfs('.'); assert s.f_bsize == s.f_frsize == 4096 and s.f_namemax == 255
assert 0 < s.f_bavail <= s.f_bfree <= s.f_blocks and s.f_ffree <= s.f_files
with open('f', 'wb') as f: f.write(os.urandom(8 << 20)); f.flush(); os.fsync(f.fileno())
t = os.statvfs('.'); assert (t.f_blocks - t.f_bfree) - (s.f_blocks - s.f_bfree) >= 1800, (s, t)
`),
  "shared mappings are written back, and see what write() does": python(
    `
put('f', bytes(100000)); fd = os.open('f', os.O_RDWR); m = mmap.mmap(fd, 100000)
m[5000:5005] = b'hello'; m.flush(); assert get('f')[5000:5005] == b'hello'
os.pwrite(fd, b'world', 70000); assert m[70000:70005] == b'world'; m[99999] = 7; m.close(); os.close(fd)
fd = os.open('f', os.O_RDONLY); os.fsync(fd); assert get('f')[99999] == 7 and len(get('f')) == 100000
`,
    { mapping: true },
  ),
  "sqlite keeps a database whole, with a rollback journal and with WAL": python(
    `
import sqlite3
for journal in ('delete', 'wal'):
    c = sqlite3.connect(journal + '.db', timeout=20); assert c.execute('pragma journal_mode=' + journal).fetchone()[0] == journal
    c.execute('create table t(a integer primary key, b text)')
    for i in range(40):
        with c: c.execute('insert into t(b) values(?)', ('x' * 300,))
    d = sqlite3.connect(journal + '.db', timeout=20); assert d.execute('select count(*) from t').fetchone()[0] == 40
    with c: c.execute('delete from t where a % 2')
    d.execute('vacuum'); assert d.execute('pragma integrity_check').fetchone()[0] == 'ok'; c.close(); d.close()
`,
    { mapping: true },
  ),
  "git can init, commit, clone, repack and fsck": sh(`
    export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e
    git init -q -b main r; cd r; mkdir d; for i in $(seq 50); do echo $i >d/$i; done; git add .; git commit -qm one
    git mv d e; echo x >>e/7; git commit -qam two; cd ..; git clone -q --no-local r c; git -C c gc -q; git -C c fsck --full --strict
    test "$(git -C c rev-parse HEAD)" = "$(git -C r rev-parse HEAD)"; test -z "$(git -C c status --porcelain)"; rm -rf r c`),
  "tar goes in and out unchanged": sh(`
    mkdir -p s/deep/er; for i in $(seq 100); do head -c $((i * 97)) /dev/urandom >s/deep/$i; done; ln s/deep/5 s/hard; ln -s deep s/sym
    touch -d @1000000000.5 s/deep/9; tar cf t.tar s; mkdir o; tar xpf t.tar -C o; tar df t.tar -C o; diff -r s o/s; rm -rf s o`),
  "rsync -a copies, and finds nothing to do the second time": sh(`
    mkdir -p s/d; for i in $(seq 60); do head -c $((i * 501)) /dev/urandom >s/d/$i; done; ln -s d/1 s/l; rsync -aH s/ t; diff -r s t
    test -z "$(rsync -aHin s/ t)"; echo more >>s/d/3; rm s/d/4; rsync -a --delete s/ t; diff -r s t; rsync -a --inplace --no-whole-file s/ t`),
  "dd writes and reads back large files, at odd sizes and with O_DIRECT or O_SYNC": sh(`
    head -c 9000001 /dev/urandom >a; dd if=a of=b bs=1M conv=fsync status=none; cmp a b; dd if=a of=b bs=777 count=500 conv=notrunc status=none; cmp a b
    dd if=a of=c bs=64K oflag=sync count=20 status=none; cmp -n 1310720 a c; head -c 8388608 a >e
    dd if=e of=d bs=1M oflag=direct status=none; cmp e d; dd if=d bs=128K iflag=direct status=none | cmp - e`),
  "flock and fcntl locks exclude other processes": python(`
def other(f):
    pid = os.fork()
    if not pid:
        try: f()
        except OSError as e: os._exit(1 if e.errno in (errno.EAGAIN, errno.EACCES) else 2)
        os._exit(0)
    return os.waitpid(pid, 0)[1] >> 8
put('f', b'x' * 100); fd = os.open('f', os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_EX); take = lambda: fcntl.flock(os.open('f', os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
assert other(take) == 1; fcntl.flock(fd, fcntl.LOCK_UN); assert other(take) == 0
fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20); part = lambda at: lambda: fcntl.lockf(os.open('f', os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 10, at)
assert other(part(25)) == 1 and other(part(40)) == 0; os.close(fd); assert other(part(25)) == 0
`),
  "fallocate makes room, punches holes and zeroes ranges": python(`
def falloc(mode, off, n):
    if libc.fallocate(fd, mode, ctypes.c_long(off), ctypes.c_long(n)): raise OSError(ctypes.get_errno(), 'fallocate')
fd = os.open('f', os.O_CREAT | os.O_RDWR); falloc(0, 0, 100000); assert os.fstat(fd).st_size == 100000, os.fstat(fd)
falloc(1, 0, 200000); assert os.fstat(fd).st_size == 100000; data = os.urandom(100000); os.pwrite(fd, data, 0); os.fsync(fd)
falloc(3, 5000, 50000); d = os.pread(fd, 100000, 0); assert d == data[:5000] + bytes(50000) + data[55000:], 'punch'
falloc(16 | 1, 60000, 100); assert os.pread(fd, 300, 59900) == data[59900:60000] + bytes(100) + data[60100:60200]
falloc(16, 99000, 5000); assert os.fstat(fd).st_size == 104000 and os.pread(fd, 9000, 99000) == bytes(5000)
`),
  "lseek finds data and holes": python(
    `
fd = os.open('f', os.O_CREAT | os.O_RDWR); os.pwrite(fd, b'a' * 4096, 65536); os.ftruncate(fd, 1 << 20); os.fsync(fd)
assert os.lseek(fd, 0, os.SEEK_DATA) == 65536 and os.lseek(fd, 65536, os.SEEK_HOLE) == 69632 and os.lseek(fd, 5, os.SEEK_HOLE) == 5
fails(errno.ENXIO, os.lseek, fd, 70000, os.SEEK_DATA); fails(errno.ENXIO, os.lseek, fd, 1 << 20, os.SEEK_HOLE); fails(errno.ENXIO, os.lseek, fd, -1, os.SEEK_DATA)
`,
    { holes: true },
  ),
  "data that is not yet written is not taken for a hole": python(`
fd = os.open('f', os.O_CREAT | os.O_RDWR); os.pwrite(fd, b'a' * 5000, 1 << 20)
at = os.lseek(fd, 0, os.SEEK_DATA); assert at <= 1 << 20
end = os.lseek(fd, 1 << 20, os.SEEK_HOLE); assert end == (1 << 20) + 5000, end
os.system('cp --sparse=always f g'); assert get('g') == get('f') and get('g')[-5000:] == b'a' * 5000
`),
  "extended attributes are set, read, listed and removed": python(`
put('f'); os.setxattr('f', 'user.a', b'1'); os.setxattr('f', 'user.b', b'x' * 4000); os.setxattr('f', 'user.empty', b'')
assert os.getxattr('f', 'user.a') == b'1' and os.getxattr('f', 'user.b') == b'x' * 4000 and os.getxattr('f', 'user.empty') == b''
assert sorted(os.listxattr('f')) == ['user.a', 'user.b', 'user.empty']; os.removexattr('f', 'user.a')
fails(errno.ENODATA, os.getxattr, 'f', 'user.a'); fails(errno.ENODATA, os.removexattr, 'f', 'user.a')
fails(errno.EEXIST, os.setxattr, 'f', 'user.b', b'', os.XATTR_CREATE); fails(errno.ENODATA, os.setxattr, 'f', 'user.z', b'', os.XATTR_REPLACE)
os.mkdir('d'); os.setxattr('d', 'user.d', b'dir'); assert os.listxattr('d') == ['user.d']
libc.getxattr.restype = ctypes.c_ssize_t; b = ctypes.create_string_buffer(10); assert libc.getxattr(b'f', b'user.b', b, 10) == -1 and ctypes.get_errno() == errno.ERANGE
`),
  "O_EXCL lets exactly one of many processes create a file": python(`
pids = []
for n in range(6):
    pid = os.fork()
    if not pid:
        won = 0
        for i in range(40):
            try: os.close(os.open('f%d' % i, os.O_CREAT | os.O_EXCL | os.O_WRONLY)); won += 1
            except FileExistsError: pass
        os._exit(won)
    pids.append(pid)
assert sum(os.waitpid(p, 0)[1] >> 8 for p in pids) == 40
fails(errno.EEXIST, os.open, 'f0', os.O_CREAT | os.O_EXCL); fails(errno.EEXIST, os.mkdir, 'f0')
`),
  "names may be any 255 bytes, and no longer": python(`
for name in (b'a' * 255, b'\\xff\\xfe\\x01', 'ä😀'.encode(), b' ', b'-', b'new\\nline', b'\\\\'):
    put(name, name); assert get(name) == name and name in os.listdir(b'.'); os.unlink(name)
fails(errno.ENAMETOOLONG, put, 'a' * 256); fails(errno.ENAMETOOLONG, os.mkdir, 'a' * 256); fails(errno.ENAMETOOLONG, os.stat, 'a' * 256)
`),
  "names of any bytes come back as they were, from listings, renames, links and symlinks": python(`
pick = random.Random(5); names = {bytes([b]) for b in range(1, 256) if b not in b'/.'} | {b'...', b'. ', b'\\xc3', b'\\xed\\xa0\\x80', b'e\\xcc\\x81', b'\\xc3\\xa9', b'A', b'a'}
d = b'directory/'
while len(names) < 290: names.add(bytes(pick.choice([b for b in range(1, 256) if b != 47]) for _ in range(pick.randrange(2, 256))))
for n in names: put(n, n)
assert len(os.listdir(b'.')) == len(names) and set(os.listdir(b'.')) == names and all(get(n) == n for n in names)
for n in names: os.mkdir(d); os.rename(n, d + n); assert os.listdir(d) == [n]; os.link(d + n, n); os.unlink(d + n); os.symlink(n, d + b'l'); assert os.readlink(d + b'l') == n; os.unlink(d + b'l'); os.rmdir(d)
assert set(os.listdir(b'.')) == names and all(get(n) == n for n in names)
for n in names: os.unlink(n)
assert os.listdir('.') == []
`),
  "errors are the ones that POSIX names": python(`
put('f'); os.mkdir('d'); put('d/x'); fails(errno.ENOTEMPTY, os.rmdir, 'd'); fails(errno.ENOTDIR, os.rmdir, 'f'); fails(errno.EISDIR, os.unlink, 'd')
fails(errno.ENOENT, os.unlink, 'none'); fails(errno.ENOTDIR, os.stat, 'f/x'); fails(errno.EISDIR, os.open, 'd', os.O_WRONLY)
fails(errno.EINVAL, os.rmdir, 'd/.'); fails(errno.ENOTDIR, os.listdir, 'f'); os.symlink('f', 's'); fails(errno.ELOOP, os.open, 's', os.O_RDONLY | os.O_NOFOLLOW)
fails(errno.EINVAL, os.readlink, 'f'); fails(errno.ENOENT, os.open, 'none', os.O_RDONLY)
for move in (os.link, os.rename): fails(errno.EXDEV, move, 'f', '/dev/coverfs-none'); fails(errno.EXDEV, move, '/dev/null', 'g')
`),
  "copy_file_range copies ranges, and the rest stays": python(`
data = os.urandom(3000000); put('a', data); put('b', b'z' * 100); a, b = os.open('a', os.O_RDONLY), os.open('b', os.O_RDWR)
done = 0
while done < 2500000: done += os.copy_file_range(a, b, 2500000 - done, 1000 + done, 50 + done)
assert get('b') == b'z' * 50 + data[1000:2501000]
assert os.copy_file_range(a, b, 100, 3000000, 0) == 0
`),
  "fsync of files and directories succeeds": python(`
fd = os.open('f', os.O_CREAT | os.O_RDWR); os.write(fd, b'x' * 10000); os.fdatasync(fd); os.fsync(fd); os.close(fd)
d = os.open('.', os.O_RDONLY); os.fsync(d); os.rename('f', 'g'); os.fsync(d); assert get('g') == b'x' * 10000
`),
  "several processes work in one directory without losing anything": python(`
pids = []
for n in range(4):
    pid = os.fork()
    if not pid:
        for i in range(60):
            p = '%d-%d' % (n, i); put(p, p.encode() * 500); os.rename(p, p + '.done')
            if i % 3 == 0: os.unlink(p + '.done')
            else: assert get(p + '.done') == p.encode() * 500
        os._exit(0)
    pids.append(pid)
for p in pids: assert os.waitpid(p, 0)[1] == 0
assert len(os.listdir('.')) == 160
`),
  "link() answers with the file's own size and inode number": python(`
fd = os.open('a', os.O_CREAT | os.O_RDWR); os.write(fd, b'x' * 12345); os.link('a', 'b'); b = os.lstat('b')
assert (b.st_size, b.st_ino, b.st_nlink) == (12345, os.fstat(fd).st_ino, 2), b
os.write(fd, b'y'); assert os.stat('b').st_size == 12346 and os.fstat(fd).st_nlink == 2; assert get('b')[-1:] == b'y'
`),
  "git clone shares objects by hard links with a repository beside it": sh(`
    export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e
    git init -q -b main r; for i in $(seq 50); do echo $i >r/$i; done; git -C r add .; git -C r commit -qm one
    git clone -q r c; test -n "$(find c/.git/objects -type f -links 2)"; git -C c fsck --full --strict; test -z "$(git -C c status --porcelain)"`),
  "open() finds a name that another process replaces by rename() all the time": python(`
put('name', b'0'); stop = time.monotonic() + 2; pids = []
for n in range(3):
    pid = os.fork()
    if not pid:
        i = 0
        while time.monotonic() < stop:
            if n == 0: i += 1; put('new', b'%d' % i); os.rename('new', 'name'); continue
            os.stat('name'); fd = os.open('name', os.O_RDONLY); assert os.read(fd, 9) and os.fstat(fd).st_size; os.close(fd)
            os.close(os.open('name', os.O_RDWR | os.O_CREAT))
        os._exit(0)
    pids.append(pid)
for p in pids: assert os.waitpid(p, 0)[1] == 0
`),
  "an open file without a name can be changed in every way": python(`
fd = os.open('f', os.O_CREAT | os.O_RDWR, 0o644); os.write(fd, b'x' * 9000); os.unlink('f')
os.fchmod(fd, 0o600); os.fchown(fd, os.getuid(), os.getgid()); os.ftruncate(fd, 20000); os.setxattr(fd, 'user.a', b'1')
os.utime(fd, ns=(7, 8)); s = os.fstat(fd); assert (s.st_mode & 0o7777, s.st_size, s.st_nlink, s.st_mtime_ns) == (0o600, 20000, 0, 8), s
assert os.getxattr(fd, 'user.a') == b'1' and os.pread(fd, 20000, 0) == b'x' * 9000 + bytes(11000)
os.posix_fallocate(fd, 0, 50000); os.fsync(fd); assert os.fstat(fd).st_size == 50000
d = os.open('.', os.O_RDONLY); os.fsync(d); assert os.listdir('.') == []
`),
  "a mapping of an open file without a name is written back": python(
    `
fd = os.open('f', os.O_CREAT | os.O_RDWR); os.write(fd, b'x' * 9000); m = mmap.mmap(fd, 9000); os.unlink('f')
m[8999] = 65; m.flush(); assert os.pread(fd, 9, 8998) == b'xA'; os.ftruncate(fd, 100); assert m[:100] == b'x' * 100
`,
    { mapping: true },
  ),
  "requests of different users at once each act with their own rights": python(
    `
os.chmod('.', 0o777); os.mkdir('shared'); os.chown('shared', 0, 777); os.chmod('shared', 0o2777); put('secret'); os.chown('secret', 0, 55); os.chmod('secret', 0o060)
def work(uid):
    for i in range(50):
        n = '%d-%d' % (uid, i); put(n, b'x'); os.mkdir(n + '.d'); os.symlink('x', n + '.s'); os.mkfifo(n + '.p'); put('shared/' + n)
        for one in (n, n + '.d', n + '.s', n + '.p'): s = os.lstat(one); assert (s.st_uid, s.st_gid) == (uid, uid + 1), (uid, s)
        s = os.stat('shared/' + n); assert (s.st_uid, s.st_gid) == (uid, 777), (uid, s)
        if uid == 1000: open('secret', 'rb').close()
        else: fails(errno.EACCES, open, 'secret', 'rb'); fails(errno.EPERM, os.chmod, 'shared', 0)
pids = []
for uid in range(1000, 1004):
    pid = os.fork()
    if not pid:
        os.setgroups([55] if uid == 1000 else []); os.setgid(uid + 1); os.setuid(uid); work(uid); os._exit(0)
    pids.append(pid)
for p in pids: assert os.waitpid(p, 0)[1] == 0
`,
    { root: true },
  ),
  "security and trusted attributes are kept on symlinks, too": python(
    `
os.symlink('none', 's'); at = dict(follow_symlinks=False)
for n in ('security.a', 'trusted.b'): os.setxattr('s', n, n.encode(), **at); assert os.getxattr('s', n, **at) == n.encode()
assert sorted(os.listxattr('s', **at)) == ['security.a', 'trusted.b']; fails(errno.EPERM, os.setxattr, 's', 'user.c', b'', **at)
os.removexattr('s', 'trusted.b', **at); fails(errno.ENODATA, os.getxattr, 's', 'trusted.b', **at); assert os.readlink('s') == 'none'
`,
    { root: true },
  ),
  "trusted attributes are there for root alone": python(
    `
put('f'); os.chmod('f', 0o666); os.chmod('.', 0o777); os.setxattr('f', 'trusted.a', b'1'); os.setxattr('f', 'user.b', b'2')
assert sorted(os.listxattr('f')) == ['trusted.a', 'user.b']; pid = os.fork()
if not pid:
    os.setuid(1000); assert os.listxattr('f') == ['user.b']; fails(errno.ENODATA, os.getxattr, 'f', 'trusted.a')
    fails(errno.EPERM, os.setxattr, 'f', 'trusted.a', b''); os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
`,
    { root: true },
  ),
  "attributes without a namespace, or in an unknown one, are refused": python(`
put('f')
for n in ('none', 'unknown.a', 'System.a'): fails(errno.EOPNOTSUPP, os.setxattr, 'f', n, b''); fails(errno.EOPNOTSUPP, os.getxattr, 'f', n)
assert os.listxattr('f') == []; os.mkfifo('p'); fails(errno.EPERM, os.setxattr, 'p', 'user.a', b'')
`),
  "what others write, cut, copy or punch loses set-id bits and capabilities": python(
    `
os.chmod('.', 0o777); put('from', b'z' * 100); os.chmod('from', 0o644); cap = struct.pack('<IIIII', 0x02000001, 1 << 10, 0, 0, 0)
ways = {
    'write': lambda fd: os.write(fd, b'y'), 'ftruncate': lambda fd: os.ftruncate(fd, 3), 'fallocate': lambda fd: os.posix_fallocate(fd, 0, 9999),
    'punch': lambda fd: libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(4096)), 'truncate': lambda fd: os.truncate('f', 2),
    'open': lambda fd: os.open('f', os.O_WRONLY | os.O_TRUNC), 'copy': lambda fd: os.copy_file_range(os.open('from', os.O_RDONLY), fd, 100),
}
for name, way in ways.items():
    put('f', b'x' * 5000); os.chmod('f', 0o6777); os.setxattr('f', 'security.capability', cap); pid = os.fork()
    if not pid: os.setgroups([]); os.setgid(1000); os.setuid(1000); way(os.open('f', os.O_RDWR)); os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0; assert os.stat('f').st_mode & 0o7777 == 0o777, name; fails(errno.ENODATA, os.getxattr, 'f', 'security.capability'); os.unlink('f')
put('f'); os.setxattr('f', 'security.capability', cap); os.chown('f', 1, 1); fails(errno.ENODATA, os.getxattr, 'f', 'security.capability')
`,
    { root: true },
  ),
  "ctime moves with every change, and with nothing else": python(`
put('f', b'x' * 100); os.mkdir('d'); put('g'); put('over'); fd = os.open('f', os.O_RDWR)
def ctime(p): return os.lstat(p).st_ctime_ns
def moves(p, *works):
    for i, work in enumerate(works): c = ctime(p); time.sleep(0.01); work(); assert ctime(p) > c, (p, i)
def stays(p, *works):
    for i, work in enumerate(works): c = ctime(p); time.sleep(0.01); work(); assert ctime(p) == c, (p, i)
def falloc(mode): return lambda: libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(8192))
moves('f', lambda: os.chmod('f', 0o644), lambda: os.chmod('f', 0o644), lambda: os.chown('f', -1, os.getgid()), lambda: os.link('f', 'h'), lambda: os.unlink('h'))
moves('f', lambda: os.write(fd, b'1'), lambda: os.ftruncate(fd, 50), lambda: os.ftruncate(fd, 50), lambda: os.utime('f', ns=(1, 2)), lambda: os.utime('f'))
moves('f', lambda: os.setxattr('f', 'user.a', b'1'), lambda: os.setxattr('f', 'user.a', b'2'), lambda: os.removexattr('f', 'user.a'))
moves('f', falloc(0), falloc(1), falloc(3), lambda: open('f', 'w').close(), lambda: open('f', 'w').close())
os.link('over', 'other'); moves('other', lambda: os.rename('g', 'over'), lambda: os.rename('other', 'o') or os.rename('o', 'other'))
moves('d', lambda: put('d/x'), lambda: os.rename('d/x', 'd/y'), lambda: os.symlink('s', 'd/s'), lambda: os.unlink('d/y'), lambda: os.mkdir('d/e'), lambda: os.rmdir('d/e'))
moves('d/s', lambda: os.lchown('d/s', -1, os.getgid())); os.rename('d', 'e')
stays('f', lambda: get('f'), lambda: os.stat('f'), lambda: os.fsync(fd), lambda: os.write(fd, b''), lambda: fails(errno.ENODATA, os.removexattr, 'f', 'user.a'))
stays('e', lambda: os.listdir('e'), lambda: fails(errno.EEXIST, os.mkdir, 'e/s'), lambda: os.chmod('.', 0o755))
`),
  "atime moves when a file, a directory or a symlink is read": python(`
put('f'); os.mkdir('d'); put('d/f'); os.symlink('f', 's'); time.sleep(0.01); put('f', b'xyz')
fd = os.open('f', os.O_RDONLY); os.fsync(fd); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
for p, read in (('f', lambda: get('f')), ('d', lambda: os.listdir('d')), ('s', lambda: os.readlink('s'))):
    old = os.lstat(p); time.sleep(0.01); read(); new = os.lstat(p); assert new.st_atime_ns > old.st_atime_ns, p
    assert (new.st_mtime_ns, new.st_ctime_ns) == (old.st_mtime_ns, old.st_ctime_ns), p
`),
  "utimensat with UTIME_NOW uses the clock that moves ctime": python(`
for i in range(20):
    put('f%d' % i); before = time.time_ns(); os.utime('f%d' % i); s = os.stat('f%d' % i)
    assert s.st_atime_ns == s.st_mtime_ns <= s.st_ctime_ns <= s.st_mtime_ns + 50000000, s; assert abs(s.st_mtime_ns - before) < 10**9
`),
  "times beyond what can be kept become the nearest that can": python(`
class Timespec(ctypes.Structure): _fields_ = [('s', ctypes.c_int64), ('ns', ctypes.c_int64)]
put('f')
for far in (2**63 - 1, -2**63):
    assert libc.utimensat(-100, b'f', (Timespec * 2)(Timespec(far, 5), Timespec(far, 5)), 0) == 0; s = os.stat('f')
    for ns in (s.st_atime_ns, s.st_mtime_ns): assert ns > 2**33 * 10**9 if far > 0 else ns < -2**31 * 10**9 + 10, s
`),
  "a program that uses up its open files takes none from others": python(`
import resource, subprocess
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; limit = min(hard, 6000); resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard)); fds = []
try:
    while True: fds.append(os.open('f%d' % (len(fds) % 3000), os.O_CREAT | os.O_RDWR))
except OSError as e: assert e.errno == errno.EMFILE, e
assert len(fds) > limit - 100; pid = os.fork()
if not pid:
    os.close(fds.pop()); os.close(fds.pop())
    for i in range(50): put('g%d' % i, b'x'); assert get('g%d' % i) == b'x'
    os.mkdir('d'); assert len(os.listdir('.')) > 3000; os._exit(0)
assert os.waitpid(pid, 0)[1] == 0; os.write(fds[0], b'last'); assert os.pread(fds[0], 9, 0) == b'last'
`),
  "what limits a file's size is kept, and what fits is written": python(`
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN); fd = os.open('f', os.O_CREAT | os.O_RDWR)
resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000)); assert os.write(fd, bytes(9000)) == 9000 and os.write(fd, bytes(9000)) == 1000
fails(errno.EFBIG, os.write, fd, b'x'); fails(errno.EFBIG, os.ftruncate, fd, 10001); fails(errno.EFBIG, os.posix_fallocate, fd, 0, 20000); assert os.fstat(fd).st_size == 10000
`),
  "a program that runs cannot be written, and runs on without a name": python(`
import shutil, subprocess
shutil.copy(shutil.which('sleep'), 'program'); os.chmod('program', 0o755); p = subprocess.Popen(['./program', '0.5'])
time.sleep(0.1); fails(errno.ETXTBSY, os.open, 'program', os.O_WRONLY); os.unlink('program'); assert p.wait() == 0
`),
};

/** The checks that can be made on a mount by this user, as entries of {@linkcode POSIX_CHECKS}. */
export function checksFor(
  mount: { root: boolean; holes: boolean; mapping: boolean },
): [string, PosixCheck][] {
  return Object.entries(POSIX_CHECKS).filter(([, check]) =>
    (!check.root || mount.root) && (!check.holes || mount.holes) && (!check.mapping || mount.mapping)
  );
}

/**
 * Runs one check in a new directory below `directory`, and removes it.
 *
 * @throws {Error} with what the script said, if it failed.
 */
export async function runCheck(check: PosixCheck, directory: string): Promise<void> {
  const place = `${directory}/check-${crypto.randomUUID()}`;
  const interpreter = check.language === "sh" ? ["sh", "-c"] : ["python3", "-IS", "-c"];
  const wrapper =
    'mkdir "$1"; cd "$1"; shift; code=0; "$@" || code=$?; cd /; rm -rf "$0" || exit 99; exit $code';
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", wrapper, place, place, ...interpreter, check.script],
    env: { LC_ALL: "C", PYTHONDONTWRITEBYTECODE: "1" },
  }).output();
  if (code !== 0) {
    const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    throw new Error(`the check ended with ${code}: ${said.trim()}`);
  }
}

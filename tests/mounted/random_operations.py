#!/usr/bin/env python3
"""Random system calls on two directories, which must answer alike: one is mounted, the other an ordinary one.

random_operations.py work MOUNTED OTHER SEED STEPS   does them, and compares both after each and as a whole
random_operations.py compare MOUNTED OTHER           compares what is there

Says "commit" or "checkpoint" in a line now and then, for whoever serves the mount to do that meanwhile.
"""

import ctypes
import errno
import hashlib
import os
import random
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, NOREPLACE, EXCHANGE = -100, 1, 2
KEEP_SIZE, PUNCH_HOLE = 1, 2
# Where two reasons for a refusal hold, or a filesystem may choose between two, either is right.
SAME = {errno.EEXIST: errno.ENOTEMPTY, errno.EISDIR: errno.EPERM}
IS_ROOT = os.geteuid() == 0


def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def renameat2(old, new, flags):
    call(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def fallocate(fd, mode, offset, length):
    call(libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)))


def has_xattrs(directory):
    try:
        os.setxattr(directory, "user.probe", b"")
        os.removexattr(directory, "user.probe")
    except OSError:
        return False
    return True


class Pair:
    """Two directories and the files that are open in both."""

    def __init__(self, mounted, other):
        self.roots = (mounted, other)
        self.open = []
        self.attributes = all(map(has_xattrs, self.roots))
        self.links = all(os.stat(root).st_nlink >= 2 for root in self.roots)

    def both(self, what, work):
        """Does `work(root, side)` in both directories; the answers, or the refusals, must be equal."""
        answers = []
        for side, root in enumerate(self.roots):
            try:
                answers.append(work(root, side))
            except OSError as error:
                answers.append("refused: " + errno.errorcode[SAME.get(error.errno, error.errno)])
        if answers[0] != answers[1]:
            raise AssertionError(f"{what}: {str(answers[0])[:300]}, expected {str(answers[1])[:300]}")
        return answers[0]

    def paths(self):
        """Every path below the root, from the ordinary directory."""
        found = []
        for folder, folders, files in os.walk(self.roots[1]):
            for name in sorted(folders) + sorted(files):
                found.append(os.path.relpath(os.path.join(folder, name), self.roots[1]))
        return sorted(found)

    def look(self, path):
        """What stat tells of a path, without what two filesystems may tell differently."""
        told = os.lstat(path)
        links = told.st_nlink if self.links or not stat.S_ISDIR(told.st_mode) else 0
        size = told.st_size if stat.S_ISREG(told.st_mode) or stat.S_ISLNK(told.st_mode) else 0
        return (oct(told.st_mode), links, told.st_uid, told.st_gid, size)

    def picture(self, root):
        """All that a user can see of a tree but times and inode numbers."""
        seen, first = [], {}
        for path in [".", *self.list(root)]:
            full = os.path.join(root, path)
            told = os.lstat(full)
            first.setdefault(told.st_ino, path)
            content = b""
            if stat.S_ISLNK(told.st_mode):
                content = os.readlink(os.fsencode(full))
            elif stat.S_ISREG(told.st_mode):
                with open(full, "rb") as file:
                    content = hashlib.sha256(file.read()).digest()
            names = sorted(os.listxattr(full, follow_symlinks=False)) if self.attributes else []
            values = [(name, os.getxattr(full, name, follow_symlinks=False)) for name in names if name.startswith("user.")]
            seen.append((path, first[told.st_ino], self.look(full), content, values))
        return seen

    def list(self, root):
        found = []
        for folder, folders, files in os.walk(root):
            found += [os.path.relpath(os.path.join(folder, name), root) for name in folders + files]
        return sorted(found)

    def compare(self):
        pictures = [self.picture(root) for root in self.roots]
        for mounted, other in zip(*pictures):
            assert mounted == other, f"{mounted}, expected {other}"
        assert len(pictures[0]) == len(pictures[1]), "there is more, or less"


class Operations:
    """One method an operation: it draws what it needs and does it in both directories."""

    def __init__(self, pair, seed):
        self.pair = pair
        self.random = random.Random(seed)

    def pick(self, suits=None):
        """A path that is there and mostly one that suits; or none, now and then."""
        paths = self.pair.paths()
        if suits and self.random.random() < 0.85:
            paths = [path for path in paths if suits(os.path.join(self.pair.roots[1], path))] or paths
        return self.random.choice(paths) if paths and self.random.random() < 0.95 else "none"

    def attribute(self):
        """A path and the name of an attribute that it mostly has."""
        path = self.pick(lambda full: self.pair.attributes and os.listxattr(full, follow_symlinks=False))
        full = os.path.join(self.pair.roots[1], path)
        names = os.listxattr(full, follow_symlinks=False) if self.pair.attributes and os.path.lexists(full) else []
        return path, self.random.choice([*names, "user.0"])

    def fresh(self):
        """A path that may be free, in a directory that may not be one."""
        folders = [p for p in self.pair.paths() if os.path.isdir(os.path.join(self.pair.roots[1], p))]
        folder = self.pick() if self.random.random() < 0.1 else self.random.choice([".", *folders])
        return os.path.join(folder, self.random.choice("abcdefghij") + self.random.choice(["", " x", "ü", "%", "'"]))

    def bytes(self, most):
        return self.random.randbytes(self.random.randrange(1, most))

    def handle(self):
        return self.random.choice(self.pair.open) if self.pair.open else None

    def create(self):
        path, data = self.fresh(), self.bytes(20000)
        flags = os.O_CREAT | os.O_WRONLY | self.random.choice([0, os.O_EXCL, os.O_TRUNC, os.O_APPEND])

        def work(root, _):
            fd = os.open(os.path.join(root, path), flags, 0o640)
            try:
                return os.write(fd, data)
            finally:
                os.close(fd)

        self.pair.both(f"create {path} {flags:o}", work)

    def open(self):
        path, flags = self.pick(os.path.isfile), os.O_RDWR | self.random.choice([0, 0, os.O_APPEND, os.O_NOFOLLOW])
        fds = {}

        def work(root, side):
            fds[side] = os.open(os.path.join(root, path), flags)

        if self.pair.both(f"open {path}", work) is None:
            self.pair.open.append((path, fds[0], fds[1]))
        if len(self.pair.open) > 8:
            for fd in self.pair.open.pop(self.random.randrange(8))[1:]:
                os.close(fd)

    def on_handle(self, what, work):
        handle = self.handle()
        if handle is None:
            return self.open()
        return self.pair.both(f"{what} {handle[0]} (open)", lambda _, side: work(handle[1 + side]))

    def pwrite(self):
        data, at = self.bytes(30000), self.random.randrange(60000)
        self.on_handle(f"pwrite {at} {len(data)}", lambda fd: os.pwrite(fd, data, at))

    def pread(self):
        length, at = self.random.randrange(40000), self.random.randrange(80000)
        self.on_handle(f"pread {at} {length}", lambda fd: os.pread(fd, length, at))

    def ftruncate(self):
        size = self.random.randrange(90000)
        self.on_handle(f"ftruncate {size}", lambda fd: os.ftruncate(fd, size))

    def fstat(self):
        self.on_handle("fstat", lambda fd: (os.fstat(fd).st_size, os.fstat(fd).st_nlink))

    def fsync(self):
        self.on_handle("fsync", lambda fd: os.fsync(fd))

    def punch(self):
        at, length = self.random.randrange(60000), self.random.randrange(1, 40000)
        self.on_handle(f"punch {at} {length}", lambda fd: fallocate(fd, PUNCH_HOLE | KEEP_SIZE, at, length))

    def preallocate(self):
        at, length = self.random.randrange(60000), self.random.randrange(1, 40000)
        self.on_handle(f"fallocate {at} {length}", lambda fd: fallocate(fd, 0, at, length))

    def copy(self):
        source, target = self.handle(), self.handle()
        if source is None or target is None or source[0] == target[0]:
            return self.open()
        at, to, length = (self.random.randrange(50000) for _ in range(3))

        def work(_, side):
            done = 0
            while done < length:
                more = os.copy_file_range(source[1 + side], target[1 + side], length - done, at + done, to + done)
                if more == 0:
                    break
                done += more
            return done

        # Within one file, or into one that is open for appending, filesystems differ in what they refuse first.
        stats = [os.fstat(one[2]) for one in (source, target)]
        if stats[0].st_ino != stats[1].st_ino:
            self.pair.both(f"copy {source[0]} to {target[0]}", work)

    def truncate(self):
        path, size = self.pick(os.path.isfile), self.random.randrange(90000)
        self.pair.both(f"truncate {path} {size}", lambda root, _: os.truncate(os.path.join(root, path), size))

    def append(self):
        path, data = self.pick(os.path.isfile), self.bytes(9000)

        def work(root, _):
            fd = os.open(os.path.join(root, path), os.O_WRONLY | os.O_APPEND)
            try:
                return os.write(fd, data)
            finally:
                os.close(fd)

        self.pair.both(f"append {path}", work)

    def read(self):
        path = self.pick(os.path.isfile)

        def work(root, _):
            with open(os.path.join(root, path), "rb") as file:
                return hashlib.sha256(file.read()).digest()

        self.pair.both(f"read {path}", work)

    def mkdir(self):
        path = self.fresh()
        self.pair.both(f"mkdir {path}", lambda root, _: os.mkdir(os.path.join(root, path), 0o751))

    def rmdir(self):
        path = self.pick(lambda full: os.path.isdir(full) and not os.listdir(full))
        self.pair.both(f"rmdir {path}", lambda root, _: os.rmdir(os.path.join(root, path)))

    def unlink(self):
        path = self.pick(os.path.isfile)
        self.pair.both(f"unlink {path}", lambda root, _: os.unlink(os.path.join(root, path)))

    def link(self):
        path, to = self.pick(os.path.isfile), self.fresh()

        def work(root, _):
            os.link(os.path.join(root, path), os.path.join(root, to), follow_symlinks=False)

        self.pair.both(f"link {path} {to}", work)

    def symlink(self):
        path, target = self.fresh(), self.random.choice(["none", ".", "a", "b x", "x" * 300])
        self.pair.both(f"symlink {path}", lambda root, _: os.symlink(target, os.path.join(root, path)))

    def readlink(self):
        path = self.pick(os.path.islink)
        self.pair.both(f"readlink {path}", lambda root, _: os.readlink(os.path.join(root, path)))

    def rename(self):
        path, to = self.pick(), self.random.choice([self.fresh, self.pick])()
        flags = self.random.choice([0, 0, 0, NOREPLACE, EXCHANGE])

        def work(root, _):
            renameat2(os.path.join(root, path), os.path.join(root, to), flags)

        self.pair.both(f"rename {path} {to} {flags}", work)

    def chmod(self):
        path, mode = self.pick(), self.random.randrange(0o10000)
        self.pair.both(f"chmod {path} {mode:o}", lambda root, _: os.chmod(os.path.join(root, path), mode | 0o700))

    def chown(self):
        path, uid, gid = self.pick(), self.random.randrange(-1, 70000), self.random.randrange(-1, 70000)
        if IS_ROOT:
            self.pair.both(f"chown {path}", lambda root, _: os.lchown(os.path.join(root, path), uid, gid))

    def utimes(self):
        path = self.pick()
        times = tuple(self.random.randrange(-(10**18), 4 * 10**18) for _ in range(2))

        def work(root, _):
            full = os.path.join(root, path)
            os.utime(full, ns=times, follow_symlinks=False)
            told = os.lstat(full)
            return told.st_mtime_ns

        self.pair.both(f"utimes {path} {times}", work)

    def stat(self):
        path = self.pick()
        self.pair.both(f"stat {path}", lambda root, _: self.pair.look(os.path.join(root, path)))

    def readdir(self):
        path = self.pick(os.path.isdir)

        def work(root, _):
            with os.scandir(os.path.join(root, path)) as entries:
                return sorted((one.name, one.is_dir(follow_symlinks=False), one.is_symlink()) for one in entries)

        self.pair.both(f"readdir {path}", work)

    def setxattr(self):
        path, name, value = self.pick(), f"user.{self.random.randrange(3)}", self.bytes(1500)
        flags = self.random.choice([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])
        if self.pair.attributes:
            self.pair.both(
                f"setxattr {path} {name}",
                lambda root, _: os.setxattr(os.path.join(root, path), name, value, flags, follow_symlinks=False),
            )

    def getxattr(self):
        path, name = self.attribute()
        if self.pair.attributes:
            self.pair.both(
                f"getxattr {path} {name}",
                lambda root, _: os.getxattr(os.path.join(root, path), name, follow_symlinks=False),
            )

    def removexattr(self):
        path, name = self.attribute()
        if self.pair.attributes:
            self.pair.both(
                f"removexattr {path} {name}",
                lambda root, _: os.removexattr(os.path.join(root, path), name, follow_symlinks=False),
            )


OFTEN = ["create", "create", "open", "pwrite", "pwrite", "pwrite", "pread", "append", "mkdir", "rename"]


def work(mounted, other, seed, steps):
    pair = Pair(mounted, other)
    for root in pair.roots:
        os.chmod(root, 0o755)
    operations = Operations(pair, seed)
    names = [name for name in vars(Operations) if name not in ("pick", "attribute", "fresh", "bytes", "handle", "on_handle")]
    names = [name for name in names if not name.startswith("_")] + OFTEN
    for step in range(steps):
        name = operations.random.choice(names)
        try:
            getattr(operations, name)()
            if step % 100 == 99:
                pair.compare()
        except AssertionError as error:
            sys.exit(f"seed {seed}, step {step}: {error}")
        if step % 50 == 25:
            print("checkpoint" if step % 200 == 125 else "commit", flush=True)
    for _, *fds in pair.open:
        for fd in fds:
            os.close(fd)


mode, mounted, other = sys.argv[1:4]
os.umask(0o022)
if mode == "work":
    work(mounted, other, int(sys.argv[4]), int(sys.argv[5]))
Pair(mounted, other).compare()

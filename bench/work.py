#!/usr/bin/env python3
"""The same work on any mounted directory: one "name value unit" a line.

work.py DIR [SCALE [MEGABYTES [link]]]: SCALE multiplies counts (1: 6000 files), MEGABYTES is the size of a stream
(256), and behind a link, what is asked for while a stream fills it is measured too. All data comes from a seed.
"""

import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time

where = sys.argv[1]
scale = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
megabytes = int(sys.argv[3]) if len(sys.argv) > 3 else 256
SEED = 20260101
work = os.path.join(where, f"bench.{os.getpid()}")
local = os.environ.get("BENCH_LOCAL", "/dev/shm/coverfs-bench")
os.makedirs(local, exist_ok=True)
os.mkdir(work)


def count(n):
    return max(5, int(n * scale))


def say(name, value, unit):
    print(f"{name} {value:.3f} {unit}", flush=True)


def drop():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3\n")


def timed(name, unit, amount, run):
    start = time.monotonic()
    run()
    seconds = time.monotonic() - start
    say(name, seconds if unit == "s" else amount / seconds, unit)


def tool(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def source():
    """A file of random bytes, made once."""
    path = os.path.join(local, f"big.{megabytes}")
    if not os.path.exists(path):
        numbers = random.Random(SEED)
        with open(path, "wb") as file:
            for _ in range(megabytes):
                file.write(numbers.randbytes(1 << 20))
    return path


def tree():
    """A tar of many small and some larger files, made once."""
    path = os.path.join(local, f"tree.{scale}.tar")
    if not os.path.exists(path):
        numbers, folder = random.Random(SEED + 1), os.path.join(local, "tree")
        for i in range(count(6000)):
            sub = os.path.join(folder, f"d{i % 97}", f"e{i % 13}")
            os.makedirs(sub, exist_ok=True)
            with open(os.path.join(sub, f"file{i}.txt"), "wb") as file:
                file.write(numbers.randbytes(int(numbers.lognormvariate(8, 1.5))))
        with tarfile.open(path, "w") as archive:
            archive.add(folder, "t")
        shutil.rmtree(folder)
    return path


big = source()
archive = tree()
target = os.path.join(work, "big")
amount = megabytes * 1048576 / 1e6
timed("seqwrite", "MB/s", amount, lambda: tool("dd", f"if={big}", f"of={target}", "bs=128K"))
os.remove(target)
timed("seqwrite+fsync", "MB/s", amount, lambda: tool("dd", f"if={big}", f"of={target}", "bs=128K", "conv=fsync"))
drop()
timed("seqread", "MB/s", amount, lambda: tool("dd", f"if={target}", "of=/dev/null", "bs=128K"))
tool("cmp", big, target)
timed("untar", "s", 1, lambda: tool("tar", "xf", archive, "-C", work))
drop()
timed("md5", "s", 1, lambda: tool("sh", "-c", f"find {work}/t -type f -print0 | xargs -0 md5sum"))
drop()
timed("lsR", "s", 1, lambda: tool("ls", "-lR", f"{work}/t"))
timed("rm", "s", 1, lambda: tool("rm", "-rf", f"{work}/t"))

small = os.path.join(work, "s")
os.mkdir(small)


def create(i, sync=False):
    fd = os.open(f"{small}/{'y' if sync else 'f'}{i}", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x" * 1000)
    if sync:
        os.fsync(fd)
    os.close(fd)


def rate(name, n, each, end=lambda: None):
    def run():
        for i in range(n):
            each(i)
        end()

    timed(name, "/s", n, run)


files = count(2000)
rate("create1k", files, create)
rate("stat", files, lambda i: os.stat(f"{small}/f{i}"))
rate("rename", files, lambda i: os.rename(f"{small}/f{i}", f"{small}/g{i}"))
rate("create1k+fsync", count(500), lambda i: create(i, True))
rate("unlink", files, lambda i: os.unlink(f"{small}/g{i}"))

fd = os.open(target, os.O_RDWR)
pages, numbers = os.fstat(fd).st_size // 4096, random.Random(SEED + 2)
page = hashlib.sha512(b"page").digest() * 64
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
rate("randread4k", count(3000), lambda i: os.pread(fd, 4096, numbers.randrange(pages) * 4096))
rate("randwrite4k", count(3000), lambda i: os.pwrite(fd, page, numbers.randrange(pages) * 4096), lambda: os.fsync(fd))


def write_synced(_):
    os.pwrite(fd, page, numbers.randrange(pages) * 4096)
    os.fsync(fd)


rate("randwrite4k+fsync", count(500), write_synced)


def while_full():
    """The longest of some reads that nothing has cached, and of some small fsyncs, while a stream fills the link."""
    done, full = threading.Event(), threading.Event()

    def stream():
        chunk = numbers.randbytes(1 << 20)
        with open(os.path.join(work, "stream"), "wb", buffering=0) as file:
            for i in range(4 * megabytes):
                file.write(chunk)
                if i == 96:
                    full.set()  # more than is held back here
                if done.is_set():
                    break
            os.fsync(file.fileno())

    def longest(name, each):
        seconds = []
        for i in range(8):
            start = time.monotonic()
            each(i)
            seconds.append(time.monotonic() - start)
        say(name, max(seconds), "s")

    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    thread = threading.Thread(target=stream)
    thread.start()
    full.wait()
    longest("read4k-while-full", lambda i: os.pread(fd, 4096, numbers.randrange(pages) * 4096))
    longest("create1k+fsync-while-full", lambda i: create(f"-full{i}", True))
    done.set()
    thread.join()
    os.fsync(fd)


if "link" in sys.argv[4:]:
    while_full()
os.close(fd)


def commits(name, journal):
    database = sqlite3.connect(f"{work}/{journal}")
    database.execute(f"pragma journal_mode = {journal}")
    database.execute("pragma synchronous = full")
    database.execute("create table t(a integer primary key, b text)")

    def insert(_):
        database.execute("insert into t(b) values(?)", ("y" * 200,))
        database.commit()

    rate(name, count(300), insert)
    database.close()


commits("sqlite-commit", "delete")
commits("sqlite-wal-commit", "wal")
shutil.rmtree(work)

#!/usr/bin/env python3
"""Large things on a mounted directory, the same for the same seed: one "name value unit" a line.

large.py write|check sparse|written|many DIR
"""

import hashlib
import os
import random
import subprocess
import sys
import time

SEED = 20260102
MIB, GIB = 1 << 20, 1 << 30
SPARSE, WRITTEN, MANY = 5 * GIB, 9 * GIB // 2, 100_000
# Where the sparse file has data: around 2 GiB and 4 GiB, at odd places, and at the end.
PIECES = [(1, 10), (2 * GIB - 5000, 10_000), (4 * GIB - 7, 14), (4 * GIB + 12_345, 1_000_000), (SPARSE - 3, 3)]

mode, kind, where = sys.argv[1:4]
path = os.path.join(where, kind)
page = random.Random(SEED).randbytes(MIB)


def say(name, value, unit):
    print(f"{kind}-{name} {value:.2f} {unit}", flush=True)


def part(number):
    """A mebibyte that differs from all others."""
    return number.to_bytes(8, "little") + page[8:]


def sparse_content():
    """The sparse file in mebibytes."""
    for number in range(SPARSE // MIB):
        start, content = number * MIB, None
        for at, length in PIECES:
            first, end = max(at, start), min(at + length, start + MIB)
            if first < end:
                content = content or bytearray(MIB)
                content[first - start : end - start] = page[first - at : end - at]
        yield content or bytes(MIB)


def written_content():
    return (part(number) for number in range(WRITTEN // MIB))


def expected():
    whole = hashlib.sha256()
    for one in sparse_content() if kind == "sparse" else written_content():
        whole.update(one)
    return whole.hexdigest()


def write_sparse():
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    for at, length in PIECES:
        os.pwrite(fd, page[:length], at)
    os.fsync(fd)
    os.close(fd)


def write_written():
    with open(path, "wb", buffering=0) as file:
        for one in written_content():
            file.write(one)
        os.fsync(file.fileno())


def write_many():
    for i in range(MANY):
        if i % 1000 == 0:
            os.makedirs(os.path.join(path, str(i // 1000)))
        with open(os.path.join(path, str(i // 1000), f"file-{i}"), "wb", buffering=0) as file:
            file.write(b"%099d\n" % i)


def check_file():
    whole = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(MIB):
            whole.update(data)
    return whole.hexdigest()


start = time.monotonic()
if mode == "write":
    {"sparse": write_sparse, "written": write_written, "many": write_many}[kind]()
    say("write", time.monotonic() - start, "s")
elif kind == "many":
    subprocess.run(["ls", "-lR", path], check=True, stdout=subprocess.DEVNULL)
    say("lsR", time.monotonic() - start, "s")
    for i in random.Random(SEED).sample(range(MANY), 1000):
        with open(os.path.join(path, str(i // 1000), f"file-{i}"), "rb") as file:
            assert file.read() == b"%099d\n" % i, f"file {i} differs"
else:
    seen = check_file()
    say("read", time.monotonic() - start, "s")
    assert seen == expected(), f"the {kind} file reads back differently"

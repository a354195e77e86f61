#!/usr/bin/env python3
"""System calls on a mounted container with many files: one "name value unit" a line.

scale.py operations|pauses DIR; `pauses` goes on until its standard input ends
"""

import os
import select
import sys
import time

mode, where = sys.argv[1:3]
COUNT = 5000


def rate(name, each):
    start = time.monotonic()
    for i in range(COUNT):
        each(i)
    print(f"{name} {COUNT / (time.monotonic() - start):.1f} /s", flush=True)


def operations():
    there = os.path.join(where, "d0")

    def create(i):
        os.close(os.open(f"{there}/new{i}", os.O_CREAT | os.O_WRONLY))

    rate("create", create)
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2\n")
    rate("stat", lambda i: os.stat(f"{there}/new{i}"))
    rate("rename", lambda i: os.rename(f"{there}/new{i}", f"{there}/other{i}"))
    rate("unlink", lambda i: os.unlink(f"{there}/other{i}"))


def pauses():
    """How long the slowest of many requests took; names are never the same, so that no cache answers."""
    longest, count = 0.0, 0
    os.write(1, b"begun")
    while not select.select([sys.stdin], [], [], 0)[0]:
        count += 1
        start = time.monotonic()
        if count % 10 == 0:
            os.close(os.open(f"{where}/d0/pause{count}", os.O_CREAT | os.O_WRONLY))
        else:
            os.path.exists(f"{where}/d0/missing{count}")
        longest = max(longest, time.monotonic() - start)
    print(f"longest-pause {longest * 1000:.1f} ms of {count}", flush=True)


{"operations": operations, "pauses": pauses}[mode]()

"""Several processes write and read whole pages of one file, or of several, all at once, in the current directory.

Arguments: files, processes of each kind, rounds, and `whole` where no page may be read half written. Every word of a
page that somebody wrote is the same, and says who wrote it and when.
"""
import os, random, struct, sys

PAGE, PAGES = 4096, 16
files, processes, rounds = (int(word) for word in sys.argv[1:4])
whole = sys.argv[4:] == ['whole']


def stamp(writer, i):
    return struct.pack('<II', writer, i)


def check(page, seen):
    """`seen`: by writer, the newest write that was read of this page in this process."""
    words = {page[at:at + 8] for at in range(0, PAGE, 8)}
    assert not whole or len(words) == 1, sorted(words)
    for word in words:
        writer, i = struct.unpack('<II', word)
        assert writer <= processes and i <= rounds, (writer, i)
    if len(words) == 1:
        assert i >= seen.get(writer, 0), 'an old write came back'
        seen[writer] = i


def write(fds, writer):
    pick = random.Random(writer)
    for i in range(1, rounds + 1):
        page = stamp(writer, i) * (PAGE // 8)
        assert os.pwrite(pick.choice(fds), page, pick.randrange(PAGES) * PAGE) == PAGE
        if i % 100 == 0:
            os.fsync(pick.choice(fds))


def read(fds, number):
    pick, seen = random.Random(-number), {}
    for _ in range(rounds):
        fd, at = pick.choice(fds), pick.randrange(PAGES)
        check(os.pread(fd, PAGE, at * PAGE), seen.setdefault((fd, at), {}))


for n in range(files):
    with open(f'file-{n}', 'wb') as f:
        f.write(bytes(PAGE * PAGES))
children = []
for n in range(1, processes + 1):
    for work in (write, read):
        child = os.fork()
        if child == 0:
            work([os.open(f'file-{k}', os.O_RDWR) for k in range(files)], n)
            os._exit(0)
        children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
whole = True
for n in range(files):
    data = open(f'file-{n}', 'rb').read()
    assert len(data) == PAGE * PAGES
    for at in range(PAGES):
        check(data[at * PAGE:(at + 1) * PAGE], {})
print('done')

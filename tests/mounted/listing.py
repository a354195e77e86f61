"""Lists a directory, named by the first argument, while entries of it come and go.

Those called `stay-N` are there all the time, as many as the second argument says; each must be listed once in every
walk, and from any position that telldir() gave on, the rest must follow.
"""
import ctypes, os, random, sys

directory, stay = os.fsencode(sys.argv[1]), int(sys.argv[2])


class Dirent(ctypes.Structure):
    """struct dirent of glibc on 64-bit Linux."""
    _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('len', ctypes.c_ushort),
                ('type', ctypes.c_ubyte), ('name', ctypes.c_char * 256)]


libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype, libc.readdir.argtypes = ctypes.POINTER(Dirent), [ctypes.c_void_p]
libc.telldir.restype, libc.telldir.argtypes = ctypes.c_long, [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.closedir.argtypes = [ctypes.c_void_p]


def walk(stream, positions=None):
    """Yields the names from here on; notes the position before each in `positions`."""
    while True:
        at = libc.telldir(stream)
        entry = libc.readdir(stream)
        if not entry:
            return
        if positions is not None:
            positions.append(at)
        yield entry.contents.name


def staying(names):
    return [name for name in names if name.startswith(b'stay-')]


def come_and_go():
    """Makes, renames and removes entries until the pipe is closed."""
    i = 0
    os.set_blocking(reader, False)
    while True:
        a, b = (os.path.join(directory, b'%s-%d' % (kind, i)) for kind in (b'come', b'go'))
        os.close(os.open(a, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.rename(a, b)
        if i >= 50:
            os.unlink(os.path.join(directory, b'go-%d' % (i - 50)))
        i += 1
        try:
            if os.read(reader, 1) == b'':
                os._exit(0)
        except BlockingIOError:
            pass


reader, writer = os.pipe()
children = []
for n in range(1):
    child = os.fork()
    if child == 0:
        os.close(writer)
        come_and_go()
    children.append(child)

expected = sorted(b'stay-%d' % i for i in range(stay))
stream = libc.opendir(directory)
positions = []
names = list(walk(stream, positions))
assert sorted(staying(names)) == expected, (len(staying(names)), len(set(staying(names))))
assert len(set(names)) == len(names), 'a name comes twice'
order = staying(names)
for i in sorted(random.Random(1).sample(range(len(names)), 40)) + [0, len(names) - 1]:
    libc.seekdir(stream, positions[i])
    following = staying(names[i:i + 3000])
    got = []
    for name in walk(stream):
        if name.startswith(b'stay-'):
            got.append(name)
        if len(got) >= len(following):
            break
    assert got == following, (i, got[:3], following[:3])
libc.seekdir(stream, positions[len(names) // 2])
assert staying(walk(stream)) == staying(names[len(names) // 2:])
libc.closedir(stream)
for _ in range(2):
    with os.scandir(directory) as entries:
        assert sorted(staying(os.fsencode(entry.name) for entry in entries)) == expected
os.close(writer)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
print('listed')

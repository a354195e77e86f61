"""Uses a directory, named by the first argument, in every common way, on and on until standard input ends.

What is there stays about the same, so that a filesystem that keeps more and more has a leak.
"""
import os, random, sys

FILES = 200
os.chdir(sys.argv[1])
me, pick = sys.argv[2], random.Random(int(sys.argv[2]))
os.set_blocking(0, False)


def ended():
    try:
        return os.read(0, 1) == b''
    except BlockingIOError:
        return False


i = 0
while i % 100 or not ended():
    i += 1
    name = f'{me}-{pick.randrange(FILES)}'
    fd = os.open(name, os.O_CREAT | os.O_RDWR | (os.O_TRUNC if pick.random() < 0.3 else 0))
    data = pick.randbytes(pick.randrange(1, 9000))
    assert os.pwrite(fd, data, 0) == len(data)
    if i % 50 == 0:
        os.fsync(fd)
    os.setxattr(fd, 'user.n', b'%d' % i)
    os.close(fd)
    with open(name, 'rb') as f:
        assert f.read(len(data)) == data
    other = f'{me}-{pick.randrange(FILES)}'
    os.rename(name, other)
    assert os.getxattr(other, 'user.n') == b'%d' % i
    if i % 10 == 0:
        os.mkdir(f'd{me}')
        os.symlink('x', f'd{me}/link')
        os.link(other, f'd{me}/hard')
        assert sorted(os.listdir(f'd{me}')) == ['hard', 'link']
        for one in ('hard', 'link'):
            os.unlink(f'd{me}/{one}')
        os.rmdir(f'd{me}')
    if i % 7 == 0:
        os.unlink(other)
    if i % 500 == 0:
        assert len(os.listdir('.')) > 0
    try:
        os.stat(f'none-{pick.randrange(50)}')
        raise AssertionError
    except FileNotFoundError:
        pass

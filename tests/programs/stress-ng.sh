# Stress-ng's stressors of filesystems find nothing wrong with --verify.
. "${0%/*}/prelude.sh"

# Those of its classes "filesystem" and "io" that work on files of a directory (getdent walks through / and /proc).
list="access aio chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate fcntl fiemap file-ioctl filename flock fpunch fsize fstat handle hdd inode-flags inotify io iomix lease link locka lockf lockofd mknod mmap open rename revio readahead seek sendfile symlink sync-file touch utime verity xattr"
bad=; for one in $list; do
  code=0; timeout -k 5 120 stress-ng --$one 2 --verify --temp-path . --timeout $((ROUNDS / 5 + 1))s --hdd-bytes 32M --iomix-bytes 32M --fallocate-bytes 32M --seek-size 32M --aio-requests 8 --quiet >"$OUT/said" 2>&1 || code=$?
  # 3 is "no resources", 4 "not implemented": a stressor that this filesystem or kernel refuses.
  case $code in 0 | 3 | 4) ;; *) bad="$bad $one:$code"; cat "$OUT/said" >&2 ;; esac
  if ls -A | grep -q .; then find . -mindepth 1 -delete || bad="$bad $one:rest"; fi
done; [ -z "$bad" ] || fail "failed:$bad"

#!/usr/bin/env bash
# The Windows build of Deno, unmodified, under Wine: `deno.sh run -A main.ts`, `deno.sh test -A tests/store`.
# What is missing is set up first: Wine and mingw-w64 by apt (as root), deno.exe from npm, wine_shim.c beside it; all but
# the packages of Debian in ${COVERFS_WINE:-~/.cache/coverfs-wine}.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
. "$here/../setup.sh"
version=2.9.6
home=${COVERFS_WINE:-${XDG_CACHE_HOME:-$HOME/.cache}/coverfs-wine}
program=$home/deno-$version
ready=$program/ready-2 # counts up with what is set up
wine=/usr/lib/wine/wine64

if [ ! -e "$ready" ]; then
  # To standard error: what the program says stays its own.
  setup_packages $wine:wine64 wine:wine x86_64-w64-mingw32-gcc:gcc-mingw-w64-x86-64 npm:npm >&2
  mkdir -p "$program"
  (cd "$program" && npm pack --silent "@deno/win32-x64@$version" >/dev/null &&
    tar -xzf "deno-win32-x64-$version.tgz" --strip-components=1 && rm "deno-win32-x64-$version.tgz")
  # No DLL of the compiler's: Wine would not find it.
  x86_64-w64-mingw32-gcc -shared -static -O2 -Wall -Wextra -Werror -o "$program/bcryptprimitives.dll" \
    "$here/wine_shim.c" -ladvapi32
fi

# No screen, no offers to install .NET or a browser, no chatter. Without Node, each process would copy deno.exe (97 MB) into
# its cache, to stand in for it, and on Wine leave the copy there.
export WINEPREFIX=$home/prefix WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml=" DISPLAY= NO_COLOR=1 \
  DENO_NO_UPDATE_CHECK=1 DENO_DISABLE_NODE_SHIM=1
if [ ! -e "$ready" ]; then
  $wine wineboot --init >&2
  $wine reg add 'HKCU\Software\Wine' /v Version /d win10 /f >/dev/null
  $wine reg add 'HKCU\Software\Wine\Drivers' /v Graphics /d null /f >/dev/null # windows without a screen
  /usr/lib/wine/wineserver64 -w # whatever runs has not read that
  touch "$ready"
fi
exec $wine "$program/deno.exe" "$@"

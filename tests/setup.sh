# Installs the OS packages that are missing, as far as that is allowed: `setup_packages COMMAND:PACKAGE ...`.
# A COMMAND that begins with / is a file. Sourced by the scripts of the tasks.
setup_packages() {
  local missing=() pair what
  for pair in "$@"; do
    what=${pair%%:*}
    case $what in
      /*) [ -e "$what" ] || missing+=("${pair#*:}") ;;
      *) command -v "$what" >/dev/null 2>&1 || missing+=("${pair#*:}") ;;
    esac
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing, and not installed: ${missing[*]}"
    return 0
  fi
  echo "installing: ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"; } >/dev/null 2>&1 ||
    echo "could not install: ${missing[*]}"
}

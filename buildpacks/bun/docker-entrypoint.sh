#!/bin/sh
# As in the official image: what is no program is for Bun to run.
set -eu
case ${1-} in
"" | -*) exec bun "$@" ;;
esac
command -v "$1" >/dev/null || exec bun "$@"
[ ! -f "$1" ] || [ -x "$1" ] || exec bun "$@"
exec "$@"

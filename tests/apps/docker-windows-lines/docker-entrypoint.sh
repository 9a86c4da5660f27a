#!/bin/sh
set -e
if [ "$1" = serve ]; then
    exec python3 -m http.server "$PORT" --bind 0.0.0.0
fi
exec "$@"

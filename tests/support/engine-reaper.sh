# Argument: the directory of a test's own engine. Ends it, and all that runs in
# it, with the test process, whose end closes our standard input.
trap '' INT TERM HUP
home=$1
echo ready
cat >/dev/null
pid=$(cat "$home/engine.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -TERM "$pid" 2>/dev/null
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 300 ]; do tries=$((tries + 1)); sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null
fi
# One that was killed leaves its root mounted.
umount -l "$home/data" 2>/dev/null
rm -rf "$home"

# Arguments: the paas binary, the test's directory. Holds the lock under which
# one server at a time uses this machine's engine; ends with the test process,
# whose end closes our standard input.
trap '' INT TERM HUP
paas=$1 home=$2
echo ready
cat >/dev/null
running() { "$paas" --data-dir "$home/data" status >/dev/null 2>&1; }
pid=$(cat "$home/serve.pid" 2>/dev/null)
# One that was told to end with us does so first.
tries=0
while kill -0 "${pid:-none}" 2>/dev/null && ! running && [ $tries -lt 50 ]; do tries=$((tries + 1)); sleep 0.1; done
# One that lives and cannot answer, since its engine is on the way down, is
# ended below; another beside it would only hide it.
if ! kill -0 "${pid:-none}" 2>/dev/null && ! running && [ -f "$home/serve.sh" ]; then
    # A test killed it: it is needed to clean up, and to stop its proxy.
    sh "$home/serve.sh" >>"$home/serve.log" 2>&1 </dev/null &
    echo $! >"$home/serve.pid"
    tries=0
    until running || [ $tries -ge 100 ]; do tries=$((tries + 1)); sleep 0.1; done
fi
sort -u "$home/apps" 2>/dev/null | while read -r app; do
    "$paas" --data-dir "$home/data" apps:destroy "$app" --confirm "$app" >/dev/null 2>&1
done
pid=$(cat "$home/serve.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -TERM "$pid" 2>/dev/null
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 150 ]; do tries=$((tries + 1)); sleep 0.1; done
    kill -KILL "$pid" 2>/dev/null
fi
# A test may have put its data on a disk of its own.
umount "$home/data" 2>/dev/null
rm -rf "$home"

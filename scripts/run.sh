#!/bin/sh
# Starts a server for development, and prints its addresses when it is ready.
# usage: run.sh PROGRAM ADDRESS DATA
set -eu

program=$1
listen=$2
data=$3

ready=$(mktemp -d)
trap 'rm -rf "$ready"' EXIT
mkfifo "$ready/line"

# A signal to this script is one to the server; then its end is waited for.
ended=
trap 'ended=1; kill -TERM "$server" 2>/dev/null || true' INT TERM

start() {
    "$program" serve --dev --listen "$listen" --data "$data" > "$ready/line" &
    server=$!
    if IFS= read -r line < "$ready/line"; then
        url=${line#listening on }
        # The port that it has is the one that its clients come back to.
        listen=${url#http://}
        echo
        echo "  demo     $url/demo"
        echo "  client   $url/highwater.js"
        echo "  health   $url/healthz"
        echo "  data     $data"
        echo
        echo "Ctrl-C ends it."
    fi
    code=0
    wait "$server" || code=$?
    # A signal interrupts the first wait; the second gives the server's own code.
    if kill -0 "$server" 2>/dev/null; then
        code=0
        wait "$server" || code=$?
    fi
}

start
# Killed with SIGKILL, as the demo does it and as the documents tell: it comes back, as by whatever
# looks after a server in earnest.
while [ "$code" = 137 ] && [ -z "$ended" ]; do
    echo
    echo "It was killed. Here it is again:"
    start
done
exit "$code"

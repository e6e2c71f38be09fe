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

"$program" serve --dev --listen "$listen" --data "$data" > "$ready/line" &
server=$!
# A signal to this script is one to the server; then its end is waited for.
trap 'kill -TERM "$server" 2>/dev/null || true' INT TERM

if IFS= read -r line < "$ready/line"; then
    url=${line#listening on }
    echo
    echo "  demo     $url/demo"
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
exit "$code"

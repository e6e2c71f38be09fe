#!/bin/sh
# Starts three nodes over three nats-servers on this machine, for development, and prints where they
# are when all are ready. Ctrl-C ends them; what they keep stays in the folder.
# usage: cluster.sh PROGRAM NATS_SERVER FOLDER [FIRST_PORT]
set -eu

program=$1
nats=$2
folder=$3
first=${4:-8081}

fail() {
    echo "$1" >&2
    exit 1
}

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
pids=
end() {
    trap '' INT TERM
    # Nodes first: they say that they go, and need the engine for it.
    for pid in $pids; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in $pids; do wait "$pid" 2>/dev/null || true; done
    for pid in ${servers:-}; do kill -TERM "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Ports of the engine: 100, 200 and 300 above those of the nodes.
routes=
addresses=
monitoring=
for n in 0 1 2; do
    routes="$routes${routes:+, }\"nats://127.0.0.1:$((first + 200 + n))\""
    addresses="$addresses${addresses:+, }\"nats://127.0.0.1:$((first + 100 + n))\""
    monitoring="$monitoring${monitoring:+, }\"http://127.0.0.1:$((first + 300 + n))\""
done

# Ctrl-C in a terminal goes to all; the servers must not go before the nodes have said goodbye.
apart=$(command -v setsid || true)
servers=
for n in 0 1 2; do
    mkdir -p "$folder/nats-$n"
    cat > "$folder/nats-$n/nats.conf" <<CONF
server_name: nats-$n
listen: "127.0.0.1:$((first + 100 + n))"
http: "127.0.0.1:$((first + 300 + n))"
max_payload: 8MB
jetstream { store_dir: "$folder/nats-$n", sync_interval: always }
cluster {
  name: highwater
  listen: "127.0.0.1:$((first + 200 + n))"
  routes: [$routes]
}
CONF
    $apart "$nats" -c "$folder/nats-$n/nats.conf" > "$folder/nats-$n/log" 2>&1 &
    servers="$servers $!"
done

# All nodes believe the same tokens.
secret=$folder/secret
[ -s "$secret" ] || (umask 077 && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$secret")
cat > "$folder/highwater.toml" <<CONF
[[auth.keys]]
alg = "HS256"
secret_file = "$secret"

[journal]
engine = "nats"
servers = [$addresses]
replicas = 3
monitoring = [$monitoring]
CONF

# alive PID LOG: what the servers said, where one has ended.
alive() {
    kill -0 "$1" 2>/dev/null || { tail -n 5 "$2" >&2; fail "It ended; all that it said is in $2."; }
}

# The servers choose who leads before they take a stream: that takes some seconds.
tries=0
until "$program" journal check --dev --config "$folder/highwater.toml" > "$folder/check" 2>&1; do
    tries=$((tries + 1))
    n=0
    for pid in $servers; do alive "$pid" "$folder/nats-$n/log"; n=$((n + 1)); done
    [ "$tries" -lt 60 ] || { cat "$folder/check" >&2; fail "The nats-servers did not come up."; }
    sleep 1
done

for n in 0 1 2; do
    data=$folder/node-$n
    "$program" serve --dev --config "$folder/highwater.toml" --data "$data" \
        --listen "127.0.0.1:$((first + n))" > "$folder/node-$n.ready" 2>> "$folder/node-$n.log" &
    pid=$!
    pids="$pids $pid"
    tries=0
    until [ -s "$folder/node-$n.ready" ]; do
        alive "$pid" "$folder/node-$n.log"
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail "Node $n is not ready; what it said is in $folder/node-$n.log."
        sleep 0.1
    done
done

echo
n=0
for pid in $pids; do
    echo "  node $n   http://127.0.0.1:$((first + n))/demo   (process $pid)"
    n=$((n + 1))
done
echo "  folder   $folder"
echo
echo "A node that is killed (kill -9 PROCESS) loses nothing. Ctrl-C ends all."
wait

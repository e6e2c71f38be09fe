#!/bin/sh
# Builds a server that `make lost` measures beside Highwater, where Go is installed; where it cannot
# be had, says so and goes on, for then its row is left out.
# usage: go-program.sh NAME MODULE@VERSION PROGRAM
set -eu

name=$1
module=$2
program=$3

[ ! -x "$program" ] || exit 0
if ! command -v go >/dev/null 2>&1; then
    echo "$name is left out: it is built with Go, which is not installed here."
    exit 0
fi
echo "Building $name ($module); that takes some minutes, once."
mkdir -p "$(dirname "$program")"
if ! GOBIN="$(cd "$(dirname "$program")" && pwd)" go install "$module"; then
    echo "$name is left out: it could not be built."
fi

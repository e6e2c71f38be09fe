#!/bin/sh
# Builds Centrifugo for `make lost` where Go is installed; where it cannot be had, says so and goes
# on, for then its row is left out.
# usage: centrifugo.sh PROGRAM
set -eu

version=v6.9.1
program=$1

[ ! -x "$program" ] || exit 0
if ! command -v go >/dev/null 2>&1; then
    echo "Centrifugo is left out: it is built with Go, which is not installed here."
    exit 0
fi
echo "Building Centrifugo $version; that takes some minutes, once."
mkdir -p "$(dirname "$program")"
if ! GOBIN="$(cd "$(dirname "$program")" && pwd)" \
    go install "github.com/centrifugal/centrifugo/v6@$version"; then
    echo "Centrifugo is left out: it could not be built."
fi

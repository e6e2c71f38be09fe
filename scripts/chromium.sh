#!/bin/sh
# Prints the path of a Chromium, installing Debian's where it is missing and may be installed.
set -eu

find_one() {
    if [ -n "${CHROMIUM:-}" ]; then
        command -v "$CHROMIUM" && return
        echo "CHROMIUM names $CHROMIUM, which is no program: name an installed Chromium." >&2
        exit 1
    fi
    for name in chromium chromium-browser google-chrome-stable google-chrome; do
        command -v "$name" && return
    done
    return 1
}

find_one && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Chromium is missing; installing Debian's package." >&2
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; } >&2 </dev/null ||
        echo "The package chromium could not be installed." >&2
    find_one && exit 0
fi

echo "The browser tests need Chromium: install it (Debian: apt-get install chromium) or set CHROMIUM to its path." >&2
exit 1

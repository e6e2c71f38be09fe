#!/bin/sh
# Says in one sentence each what is missing on this machine; with `tests`, for the tests too.
set -eu

fail() {
    echo "$1" >&2
    exit 1
}

# at_least HAVE WANT: compares MAJOR.MINOR.
at_least() {
    have_major=${1%%.*}
    have_rest=${1#*.}
    have_minor=${have_rest%%.*}
    want_major=${2%%.*}
    want_minor=${2#*.}
    [ "$have_major" -gt "$want_major" ] ||
        { [ "$have_major" -eq "$want_major" ] && [ "$have_minor" -ge "$want_minor" ]; }
}

command -v cargo >/dev/null 2>&1 && command -v rustc >/dev/null 2>&1 ||
    fail "Rust is missing: install Rust 1.90 or later (rustup.rs)."
rust=$(rustc --version | cut -d' ' -f2)
at_least "$rust" 1.90 || fail "Rust is $rust: install Rust 1.90 or later (rustup update)."

command -v node >/dev/null 2>&1 || fail "Node.js is missing: install Node.js 20.11 or later (nodejs.org)."
command -v npm >/dev/null 2>&1 || fail "npm is missing: install npm, which comes with Node.js 20.11 or later."
node=$(node --version)
node=${node#v}
# The first with --test-timeout.
at_least "$node" 20.11 || fail "Node.js is $node: install Node.js 20.11 or later (nodejs.org)."

command -v cc >/dev/null 2>&1 || command -v gcc >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 ||
    fail "A C compiler is missing: install gcc or clang (Debian: apt-get install build-essential)."

[ "${1:-}" = tests ] || exit 0
# A client of the protocol in another language; its standard library is enough.
python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
    fail "Python is missing: the tests need Python 3.10 or later (Debian: apt-get install python3)."
at_least "$python" 3.10 || fail "Python is $python: the tests need Python 3.10 or later."

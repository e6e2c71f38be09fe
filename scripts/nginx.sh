#!/bin/sh
# Prints the path of an nginx for the tests, unpacking Debian's package where none is installed: it
# is not installed itself, since that would start a server. Where none can be had, prints nothing
# and says so; the tests that need it then say that they are left out.
set -eu

if [ -n "${NGINX:-}" ]; then
    command -v "$NGINX" && exit 0
    echo "NGINX names $NGINX, which is no program: name an installed nginx." >&2
    exit 1
fi
command -v nginx && exit 0
[ -x /usr/sbin/nginx ] && echo /usr/sbin/nginx && exit 0

folder=$(cd "$(dirname "$0")/.." && pwd)/target/nginx
program=$folder/usr/sbin/nginx

# Its libraries are those of the system, which may lack one.
runs() {
    [ -x "$program" ] && "$program" -v >/dev/null 2>&1
}

unpack() {
    rm -rf "$folder" && mkdir -p "$folder" && cd "$folder" &&
        apt-get download -q nginx && dpkg-deb -x nginx_*.deb .
}

if ! runs && command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1; then
    echo "nginx is missing; unpacking Debian's package under target/." >&2
    {
        unpack || { [ "$(id -u)" = 0 ] && apt-get update -q && unpack; } ||
            echo "The package nginx could not be had."
    } >&2 </dev/null
fi
runs && echo "$program" && exit 0
echo "There is no nginx (Debian: apt-get install nginx, or set NGINX): its tests are left out." >&2

#!/bin/sh
# need.sh required|optional PACKAGE TEST: installs a Debian package unless TEST succeeds.
#
# Exits with 1 if a required package cannot be installed. An optional package is only named, and the tests
# that need it are ignored or report that they were skipped.
set -u
export PATH="$PATH:/usr/sbin:/sbin" DEBIAN_FRONTEND=noninteractive
kind=$1 package=$2 test=$3
sh -c "$test" >/dev/null 2>&1 && exit 0

root=
[ "$(id -u)" -eq 0 ] || root='sudo -n env DEBIAN_FRONTEND=noninteractive'
if command -v apt-get >/dev/null 2>&1; then
    echo "installing $package" >&2
    # The package list may be missing or outdated. It is updated only if the first attempt fails.
    $root apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
        { $root apt-get update -qq >/dev/null 2>&1 &&
            $root apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1; }
    sh -c "$test" >/dev/null 2>&1 && exit 0
fi

echo "could not install $package; by hand: sudo apt-get install $package" >&2
echo "(on other systems the package with the same content, for example libpcap-devel)" >&2
[ "$kind" = optional ] && exit 0
exit 1

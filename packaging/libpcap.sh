#!/bin/sh
# libpcap.sh DIR: builds DIR/lib/libpcap.a, which needs only the C library, from Debian's source
# package, and copies its licence to DIR/libpcap-licence.
#
# Debian's own libpcap.a needs D-Bus, which Debian has only as a shared library, so a static program
# cannot be linked with it. The options below disable the capture from USB, Bluetooth, RDMA adapters
# and D-Bus, which carry no farm traffic.
set -eu
umask 022
[ $# -eq 1 ] || { echo "usage: libpcap.sh DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(cd "$1" && pwd)

# Fetches the sources from the mirrors that this machine's apt uses. Its configuration seldom
# includes source packages, so a separate list adds them.
list=$dir/apt
rm -rf "$list"
trap 'rm -rf "$list"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$list/lists/partial" "$list/cache/archives/partial"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -s "$keys" ] && signed="[signed-by=$keys] " || signed=
# apt expands these variables, not the shell.
# shellcheck disable=SC2016
apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Identifier: Packages' 'Origin: Debian' 'Component: main' | sort -u |
    sed "s|^|deb-src $signed|" > "$list/sources"
[ -s "$list/sources" ] || {
    echo "no Debian mirror is configured here, so libpcap's source package cannot be fetched" >&2
    exit 1
}
apt() {
    timeout 300 apt-get -qq -o Dir::Etc::SourceList="$list/sources" -o Dir::Etc::SourceParts=- \
        -o Dir::State::Lists="$list/lists" -o Dir::Cache="$list/cache" \
        -o Acquire::Retries=3 -o APT::Sandbox::User=root "$@"
}
apt update || {
    [ -s "$dir/version" ] || exit 1
    echo "no mirror answers: libpcap $(cat "$dir/version") of an earlier run is used" >&2
    exit 0
}
version=$(apt-cache -o Dir::Etc::SourceList="$list/sources" -o Dir::Etc::SourceParts=- \
    -o Dir::State::Lists="$list/lists" -o Dir::Cache="$list/cache" showsrc --only-source libpcap |
    sed -n 's/^Version: //p' | sort -V | tail -1)
if [ "$(cat "$dir/version" 2> /dev/null)" = "$version" ] && [ -s "$dir/lib/libpcap.a" ]; then
    echo "libpcap $version is built already"
    exit 0
fi
rm -rf "$dir/source" "${dir:?}/lib" "$dir/version"
mkdir -p "$dir/source" "$dir/lib"
(cd "$dir/source" && apt source "libpcap=$version" > "$dir/log" 2>&1) || { cat "$dir/log" >&2; exit 1; }
cd "$dir/source"/libpcap-*/
# Keep the paths of this machine out of the library.
export CFLAGS="-O2 -g0 -fPIC -ffile-prefix-map=$PWD=libpcap"
{
    ./configure --disable-shared --disable-dbus --disable-rdma --disable-usb --disable-bluetooth \
        --disable-netmap --without-dpdk --without-libnl --without-dag --without-snf --without-turbocap &&
        make -j"$(nproc)" libpcap.a
} > "$dir/log" 2>&1 || { tail -40 "$dir/log" >&2; exit 1; }
cp libpcap.a "$dir/lib/"
cp LICENSE "$dir/libpcap-licence"
echo "$version" > "$dir/version"
cd "$dir"
rm -rf "$dir/source"
echo "built libpcap $version"

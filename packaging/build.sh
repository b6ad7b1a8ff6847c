#!/bin/bash
# build.sh WORK: builds the program twice for x86-64 Linux: WORK/static/rasaudit, which needs no
# shared library, and WORK/dynamic/rasaudit, which uses the system's glibc and libpcap.
#
# Both are optimized with a profile (profile.sh), if there is one.
#
# Both use glibc, because its allocator is much faster than musl's. The Debian package contains the
# dynamic one, so that the distribution's fixes for glibc and libpcap apply, and names can be looked
# up through any NSS module.
set -eu
umask 022
[ $# -eq 1 ] || { echo "usage: build.sh WORK" >&2; exit 2; }
mkdir -p "$1"
work=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
triple=x86_64-unknown-linux-gnu

packaging/libpcap.sh "$work/libpcap"
cargo fetch --locked --quiet --target "$triple"

# Panic messages contain the paths of source files. Replacing the folder of this machine in them
# makes two builds of a commit identical.
flags=
for sources in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    flags="$flags--remap-path-prefix=$sources=crates"
done
# Each program has its own target folder, because cargo would otherwise rebuild the crates of one
# for the other.
build() {
    cargo build --release --locked --quiet --bin rasaudit --target "$triple" \
        --target-dir "$work/target-$1" &&
        install -Dm755 "$work/target-$1/$triple/release/rasaudit" "$work/$1/rasaudit"
}
separator=$(printf '\037')
flags=$(printf %s "$flags" | sed "s/\(.\)--remap/\1$separator--remap/g")

profile=$(packaging/profile.sh "$work" "$flags")
if [ -n "$profile" ]; then
    flags=$flags$separator-Cprofile-use=$profile
else
    echo 'without a profile: llvm-profdata for the LLVM of the compiler is not installed'
fi

# A static program cannot ask at run time whether the C library has getrandom. Without the first
# flag, it would read /dev/urandom, which an empty folder or container does not have.
static='--cfg=getrandom_backend="linux_getrandom"'$separator-Ctarget-feature=+crt-static

# Most of the time goes to linking, which uses one processor, so both are built at the same time.
# Each build has its own process group, so that no compiler is left running when this script is
# stopped.
set -m
jobs=()
stop() {
    local job
    for job in "${jobs[@]}"; do kill -- "-$job" 2> /dev/null || true; done
}
trap stop EXIT
trap 'exit 130' INT TERM
CARGO_ENCODED_RUSTFLAGS=$flags$separator$static$separator-Cstrip=symbols \
    LIBPCAP_LIBDIR=$work/libpcap/lib LIBPCAP_VER=$(sed 's/-.*//' "$work/libpcap/version") build static &
jobs+=($!)
CARGO_ENCODED_RUSTFLAGS=$flags$separator-Cstrip=symbols build dynamic &
jobs+=($!)
wait "${jobs[0]}"
wait "${jobs[1]}"

#!/bin/bash
# profile.sh WORK FLAGS: makes a profile of work with the fixtures, and prints its path. FLAGS
# are the compiler flags of the programs, in the form of CARGO_ENCODED_RUSTFLAGS.
#
# A profile is made once for each version of the program and of the compiler's LLVM, and kept in
# WORK. PROFILE names one to use instead, such as that of a published build. Prints nothing if the
# llvm-profdata of the compiler's LLVM is not installed.
set -eu
umask 022
[ $# -eq 2 ] || { echo "usage: profile.sh WORK FLAGS" >&2; exit 2; }
work=$1 flags=$2
cd "$(dirname "$0")/.."
triple=x86_64-unknown-linux-gnu
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
profile=$work/rasaudit-$version-llvm$llvm.profdata

if [ -n "${PROFILE:-}" ]; then
    cmp -s "$PROFILE" "$profile" || cp "$PROFILE" "$profile"
elif [ ! -s "$profile" ]; then
    command -v "llvm-profdata-$llvm" > /dev/null || exit 0
    raw=$work/profile
    rm -rf "$raw"
    mkdir -p "$raw/counts"
    separator=$(printf '\037')
    CARGO_ENCODED_RUSTFLAGS=$flags$separator-Cprofile-generate=$raw/counts cargo build --release \
        --locked --quiet --bin rasaudit --target "$triple" --target-dir "$work/target-profile"
    program=$work/target-profile/$triple/release/rasaudit
    # An audit that has findings exits with 1, and one of a damaged capture with 3.
    run() {
        local code=0
        "$program" "$@" --quiet > "$raw/log" 2>&1 || code=$?
        case $code in 0 | 1 | 3) ;; *) cat "$raw/log" >&2; exit 1 ;; esac
    }
    inventory=fixtures/farm-healthy/inventory.toml
    for capture in fixtures/*/*.pcap*; do
        run audit "$capture" -i "$inventory" --out "$raw/report" --jobs 1
        run collect "$capture" -i "$inventory" --to "$raw/rows" --jobs 1
    done
    # What is not run is optimized for size, not for speed.
    run merge "$raw/rows" --to "$raw/merged"
    run audit "$raw/merged" -i "$inventory" --out "$raw/report" --jobs 1
    "llvm-profdata-$llvm" merge --sparse -o "$profile.part" "$raw"/counts/*.profraw
    mv "$profile.part" "$profile"
    rm -rf "$raw"
fi
echo "$profile"

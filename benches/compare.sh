#!/bin/sh
# Compares rasaudit with a bare libpcap loop and with the capture and flow tools in Debian, on
# generated captures.
#
#     benches/compare.sh      five rounds
#
# RUNS=3 makes three rounds, LIMIT=60 stops a program after 60 s, and PEERS=0 runs only the loop and
# rasaudit. Prints the tables of docs/performance.md. Programs that are not installed are named and
# left out (apt-get install tcpdump softflowd nfdump argus-server tshark suricata). Needs about
# 4 GiB in TMPDIR.
set -eu
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM
cargo build --release --locked --quiet
cargo build --release --locked --quiet --example generate
target=$(cargo metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
cc -O2 -o "$scratch/loop" benches/loop.c -lpcap
for shape in mixed small hostile; do
    "$target/release/examples/generate" "$shape" "$scratch/$shape.pcap" --inventory "$scratch/$shape.toml" \
        > "$scratch/$shape.txt"
done
"$target/release/examples/generate" mixed "$scratch/mixed.pcapng" --pcapng > /dev/null
python3 benches/compare.py "$target/release/rasaudit" "$scratch/loop" "$scratch"

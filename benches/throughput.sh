#!/bin/sh
# Whole-process figures for a generated capture: packets a second and peak memory.
#
#     benches/throughput.sh [PACKETS] [FLOWS]        1000000 packets in 100000 flows if left out
#
# Runs each number of workers five times after a warm-up and prints the median. These are figures of
# one machine in one hour; compare figures of the same run only.
set -eu
# A failing run prints nothing, and a median of nothing is seen: the line below then lacks figures.
cd "$(dirname "$0")/.."
packets=${1:-1000000}
flows=${2:-$((packets / 10))}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM
cargo build --release --locked --quiet
cargo run --release --locked --quiet --example generate -- "$scratch/generated.pcap" "$packets" "$flows"
program=$(cargo metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/rasaudit
for jobs in 1 2; do
    for run in 0 1 2 3 4 5; do
        python3 - "$program" audit "$scratch/generated.pcap" --jobs "$jobs" \
            --inventory fixtures/farm-healthy/inventory.toml --quiet --fail-on never <<'PYTHON'
import os, resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.run(sys.argv[1:]).returncode
wall = time.monotonic() - start
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
if code:
    sys.exit(f"the audit ended with {code}")
print(f"{usage.ru_utime + usage.ru_stime:.3f} {wall:.3f} {usage.ru_maxrss // 1024}")
PYTHON
    done | sed 1d | sort -n | sed -n 3p | while read -r cpu wall peak; do
        awk -v p="$packets" -v f="$flows" -v j="$jobs" -v c="$cpu" -v w="$wall" -v m="$peak" 'BEGIN {
            printf "%d packets, %d flows, jobs %d: %.2f s CPU, %.2f s wall, %.2f M packets/s, %.0f ns CPU a packet, peak %d MiB\n",
                p, f, j, c, w, p / w / 1e6, c / p * 1e9, m }'
    done
done

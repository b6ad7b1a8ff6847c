#!/bin/sh
# Measures the HTML report of a large audit: the CPU time to write it (and the CSV report, for
# comparison), its size, and how soon a browser can use it.
# Needs node, Chromium and the packages that `make need-test` installs.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM
cargo run --release --locked --quiet --example generate -- small "$scratch/small.pcap" --packets 1000000 --flows "${1:-140000}" \
    --inventory "$scratch/farm.toml"
for format in html csv; do
    echo "--format $format:"
    cargo run --release --locked --quiet -- audit "$scratch/small.pcap" -i "$scratch/farm.toml" --format "$format" --timings \
        2> "$scratch/told" > "$scratch/report.$format" || true
    grep -E 'step|judgement|reports' "$scratch/told"
done
ls -l "$scratch/report.html" | awk '{print "bytes of the page:", $5}'
node tests/browser/measure.mjs "$scratch/report.html"

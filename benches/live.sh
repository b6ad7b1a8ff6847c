#!/bin/sh
# Measures the highest frame rate at which a live audit loses no frame, compared with tcpdump on the
# same cable; the memory of a live audit under a flood of frames from random addresses; or how long
# a large window takes to be judged.
#
#     benches/live.sh                          rates of small and mixed frames, 1 and 2 threads
#     benches/live.sh rates [PROGRAM...]       the same, and the rates of other programs with 1 thread
#     benches/live.sh flood 600                memory every 10 s for 600 s
#     benches/live.sh window [PROGRAM...]      a window of 200,000 conversations, five times with this
#                                              program and with others, in turn
#
# PPS sets the rate of the flood in frames per second (50000). Needs root, iproute2, tcpreplay,
# tcpdump and python3. Uses a network namespace, which is deleted at the end.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
target=$(cargo metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
program=$target/release/rasaudit
scratch=$(mktemp -d)
space=ras-bench-$$
ip netns add "$space"
trap 'ip netns del "$space"; rm -rf "$scratch"' EXIT INT TERM
ip -n "$space" link add sent type veth peer name span
for end in sent span lo; do ip -n "$space" link set "$end" up; done
ip netns exec "$space" sysctl -qw net.ipv6.conf.all.disable_ipv6=1
inside() { ip netns exec "$space" "$@"; }
inventory=fixtures/farm-healthy/inventory.toml
live() { inside "$program" live span -i "$inventory" "$@"; }
chmod -R go-w fixtures/farm-healthy

# Prints the ID of the first process with this name in the network namespace of this script.
pid_of() {
    for pid in $(ip netns pids "$space"); do
        [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = "$1" ] && echo "$pid"
    done | head -1
}

if [ "${1:-}" = flood ]; then
    seconds=${2:-600}
    python3 benches/flood.py "$scratch/flood.pcap" 2000000
    live --out "$scratch/out" --every 10s --state "$scratch/state" --idle 30s --listen 9475 > /dev/null 2> "$scratch/told" &
    sleep 1
    pid=$(pid_of rasaudit)
    inside tcpreplay -q -i sent --pps "${PPS:-50000}" --loop 1000000 "$scratch/flood.pcap" > /dev/null 2>&1 &
    passed=0
    echo "| s | resident MiB |"
    echo "| --- | --- |"
    while [ "$passed" -lt "$seconds" ]; do
        sleep 10
        passed=$((passed + 10))
        echo "| $passed | $(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status") |"
    done
    echo "peak: $(awk '/VmHWM/ {print int($2 / 1024)}' "/proc/$pid/status") MiB"
    kill "$(pid_of tcpreplay)"
    kill -TERM "$pid"
    wait
    echo "messages about aggregated flows: $(grep -c 'aggregated' "$scratch/told" || true)"
    grep 'this window lost' "$scratch/told" | tail -3 || true
    exit 0
fi

if [ "${1:-}" = window ]; then
    shift
    cargo run --release --locked --quiet --example generate -- mixed "$scratch/mixed.pcap" --packets 1500000 \
        --flows 400000 --inventory "$scratch/mixed.toml" > /dev/null
    inventory=$scratch/mixed.toml
    # Prints the value of a metric.
    metric() {
        inside python3 - "rasaudit_$1" << 'END'
import sys, urllib.request
own = urllib.request.build_opener(urllib.request.ProxyHandler({}))
text = own.open("http://127.0.0.1:9475/metrics", timeout=10).read().decode()
values = [line.split()[-1] for line in text.splitlines() if line.split("{")[0].split()[0] == sys.argv[1]]
print(sum(map(float, values)))
END
    }
    # Prints the seconds from the end of a window to its report, and the numbers of its conversations
    # and of lost frames. With less memory, flows would be aggregated.
    judged() {
        name=$(basename "$program" | cut -c1-15)
        live --every 1h --quiet --jobs 1 --buffer 256MiB --max-memory 8GiB --listen 9475 "$@" > /dev/null 2> "$scratch/told" &
        sleep 1
        inside tcpreplay -q -i sent --preload-pcap --pps 250000 "$scratch/mixed.pcap" > /dev/null 2>&1
        sleep 2
        kill -USR1 "$(pid_of "$name")"
        tries=0
        until [ "$(metric windows_total)" = 1.0 ] || [ "$tries" -ge 60 ]; do
            sleep 1
            tries=$((tries + 1))
        done
        echo "$(metric window_lag_seconds) $(metric conversations) $(metric frames_lost_total)"
        kill -KILL "$(pid_of "$name")"
        wait
    }
    echo "| program | reports | seconds to the report | conversations | frames lost |"
    echo "| --- | --- | --- | --- | --- |"
    own=$program
    for round in 1 2 3 4 5; do
        for program in "$own" "$@"; do
            echo "| $program | no | $(judged | sed 's/ / | /g') |"
            echo "| $program | yes | $(judged --out "$scratch/out" | sed 's/ / | /g') |"
        done
    done
    exit 0
fi

for shape in small mixed; do
    cargo run --release --locked --quiet --example generate -- "$shape" "$scratch/$shape.pcap" --packets 400000 \
        --flows 40000 > /dev/null
done

# lost NAME SHAPE RATE: prints how many of the frames that were sent within eight seconds the
# program lost. RATE is in frames per second. The buffers of all programs have the same size and
# hold a fraction of a second.
lost() {
    case $1 in
        tcpdump)
            inside tcpdump -i span -B 8192 -s 1600 -w /dev/null 2> "$scratch/seen" &
            ;;
        *)
            program=${1%-*}
            live --out "$scratch/out" --every 1h --quiet --jobs "${1##*-}" --buffer 8MiB > /dev/null 2> "$scratch/seen" &
            ;;
    esac
    sleep 1
    inside tcpreplay -q -i sent --preload-pcap --loop 1000000 --duration 8 --pps "$3" "$scratch/$2.pcap" \
        > "$scratch/sent" 2>&1
    sleep 1
    case $1 in
        tcpdump)
            kill -INT "$(pid_of tcpdump)"
            wait
            awk '/dropped by kernel/ {print $1}' "$scratch/seen"
            ;;
        *)
            kill -TERM "$(pid_of "$(basename "$program" | cut -c1-15)")"
            wait
            python3 - "$scratch/out/latest/audit.json" << 'END'
import json, sys
print(json.load(open(sys.argv[1]))["accounting"]["loss"]["dropped"])
END
            ;;
    esac
}

own=$program
if [ "${1:-}" = rates ]; then
    shift
    for other in "$@"; do
        shift
        set -- "$@" "$other-1"
    done
fi
echo "| frames | program | highest rate without loss, frames a second |"
echo "| --- | --- | --- |"
for shape in small mixed; do
    for name in tcpdump "$own-1" "$own-2" "$@"; do
        best=0
        for rate in 200000 400000 500000 600000 800000 1000000 1200000; do
            if [ "$(lost "$name" "$shape" "$rate")" != 0 ]; then
                best="$best, lost some at $rate"
                break
            fi
            best=$(awk '/Rated/ {gsub(",", ""); for (i = 1; i < NF; i++) if ($(i + 1) == "pps") print int($i)}' "$scratch/sent")
            if [ "$best" -lt $((rate * 9 / 10)) ]; then
                best="$best, all that tcpreplay sends here"
                break
            fi
        done
        echo "| $shape | $name | $best |"
    done
done

#!/usr/bin/env python3
"""Compares the processor time of two builds of rasaudit, for example a static and a dynamic one.

    make dist-build
    cargo run --release --example generate -- small small.pcap --packets 3000000 --flows 300000 --inventory farm.toml
    benches/pairs.py target/dist-work/static/rasaudit target/dist-work/dynamic/rasaudit small.pcap farm.toml

Each pair runs both programs with one worker, in alternating order, so that other work on the machine
affects both alike. The ratio is the median over the pairs. RUNS sets the number of pairs (9).
"""

import os
import statistics
import sys


def measured(program, capture, inventory):
    """Returns processor seconds and peak MiB of an audit."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.execv(program, [program, "audit", capture, "-i", inventory, "--jobs", "1"])
    _, status, usage = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        sys.exit(f"{program} ended with {code}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    if len(sys.argv) != 5:
        sys.exit("usage: pairs.py PROGRAM PROGRAM CAPTURE INVENTORY")
    programs, files = sys.argv[1:3], sys.argv[3:]
    for program in programs:
        measured(program, *files)
    # Both paths may be the same, to measure how much the ratio varies by itself.
    runs = [[], []]
    for pair in range(int(os.environ.get("RUNS", "9"))):
        for number in (1, 0) if pair % 2 else (0, 1):
            runs[number].append(measured(programs[number], *files))
    for program, measurements in zip(programs, runs):
        cpu, peak = (statistics.median(values) for values in zip(*measurements))
        print(f"{program}: {cpu:.3f} CPU s, {peak:.0f} MiB")
    pairs = zip(*runs)
    print(f"ratio: {statistics.median(first[0] / second[0] for first, second in pairs):.3f}")


main()

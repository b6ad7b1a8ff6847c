#!/usr/bin/env python3
"""Runs rasaudit and other programs on the same files in turn. Prints tables of medians and ratios.

Called by benches/compare.sh. Each program runs once to warm up. Then RUNS rounds of all programs
follow, each in random order, so that other load on the machine affects all programs equally. A program that takes more
than 20 s does not run again, and this run counts. CPU time includes that of child processes.
"""

import csv
import os
import random
import re
import shutil
import statistics
import subprocess
import sys

RUNS = int(os.environ.get("RUNS", "5"))
LIMIT = int(os.environ.get("LIMIT", "300"))
PEERS = os.environ.get("PEERS", "1") != "0"


def measured(command, allowed):
    """Returns CPU seconds, wall-clock seconds, peak MiB and standard error. Returns None after LIMIT
    seconds. Ends the script if the exit status is not in `allowed`. Each command has its own parent
    process, so that the usage of that process's children is the usage of the command."""
    code = (
        "import os,resource,subprocess,sys,time\n"
        "t=time.monotonic();p=subprocess.run(sys.argv[1:],stdout=subprocess.DEVNULL,stderr=subprocess.PIPE,text=True)\n"
        "u=resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(u.ru_utime+u.ru_stime,time.monotonic()-t,u.ru_maxrss/1024,p.returncode)\n"
        "sys.stderr.write(p.stderr)\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=LIMIT, check=True
        )
    except subprocess.TimeoutExpired:
        return None
    cpu, wall, peak, status = done.stdout.split()
    if int(status) not in allowed:
        sys.exit(f"{' '.join(command)} ended with {status}\n{done.stderr}")
    return float(cpu), float(wall), float(peak), done.stderr


def packet_path(errors):
    """Returns the CPU seconds that rasaudit needs for all packets, from the output of --timings."""
    steps = dict(re.findall(r"^(\w+) +[\d.]+ ms +([\d.]+) ms", errors, re.M))
    return float(steps["packets"]) / 1000


def main(program, loop, scratch):
    for shape in ("mixed", "small", "hostile"):
        inventory = f"{scratch}/{shape}.toml"
        capture = f"{scratch}/{shape}.pcap"
        truth = open(f"{scratch}/{shape}.txt", encoding="utf-8").read().strip()
        check(program, capture, inventory, truth)
        audit = [program, "audit", "-i", inventory, "--fail-on", "never", "--timings", capture]
        programs = {
            "libpcap loop": [loop, capture],
            "rasaudit, 1 worker": [*audit, "--jobs", "1"],
            "rasaudit, 2 workers": [*audit, "--jobs", "2"],
            "rasaudit, 1 worker, --out": [*audit, "--jobs", "1", "--quiet", "--out", f"{scratch}/out"],
        }
        if shape == "mixed" and os.path.exists(f"{scratch}/mixed.pcapng"):
            ng = [*audit[:-1], f"{scratch}/mixed.pcapng"]
            programs["rasaudit, 1 worker, pcapng"] = [*ng, "--jobs", "1"]
        peers = {
            "tcpdump": ["tcpdump", "-n", "-r", capture, "-w", "/dev/null"],
            "softflowd": ["softflowd", "-m", "2000000", "-r", capture],
            "nfpcapd": ["nfpcapd", "-r", capture, "-l", f"{scratch}/nf", "-w", f"{scratch}/nf"],
            "argus": ["argus", "-r", capture, "-w", "/dev/null"],
            "suricata": ["suricata", "-r", capture, "-l", scratch, "-S", "/dev/null"],
            "tshark conv,tcp": ["tshark", "-n", "-q", "-z", "conv,tcp", "-r", capture],
        }
        os.makedirs(f"{scratch}/nf", exist_ok=True)
        for name, command in peers.items():
            if not PEERS:
                continue
            if shutil.which(command[0]):
                programs[name] = command
            else:
                print(f"({command[0]} is not installed)", file=sys.stderr)
        results = {name: [] for name in programs}
        slow = set()
        for number in range(RUNS + 1):
            for name, command in random.sample(list(programs.items()), len(programs)):
                # A program that took more than 20 s does not run again.
                if name in slow:
                    continue
                allowed = (0,) if name.startswith(("rasaudit", "libpcap")) else range(256)
                result = measured(command, allowed)
                if result is None or result[1] > 20:
                    slow.add(name)
                if number > 0 or name in slow:
                    results[name].append(result)
        table(shape, truth, results)


def check(program, capture, inventory, truth):
    """Ends the script unless the audit counts the frames, flows and conversations that the generator
    wrote."""
    wanted = dict(part.split("=") for part in truth.split())
    audit = [program, "audit", "-i", inventory, "--fail-on", "never", capture]
    text = subprocess.run(audit, capture_output=True, text=True, check=True).stdout
    frames, talks = re.search(r"(\d+) frames in", text)[1], re.search(r"(\d+) conversations:", text)[1]
    report = subprocess.run([*audit[:-1], "--format", "conversations", capture], capture_output=True, text=True, check=True)
    header, *rows = report.stdout.splitlines()
    column = header.split(",").index("flows")
    flows = sum(int(row[column]) for row in csv.reader(rows))
    found = {"frames": frames, "flows": str(flows), "conversations": talks}
    if found != wanted:
        sys.exit(f"{capture}: generated {wanted}, found {found}")


def table(shape, truth, results):
    base = statistics.median(r[0] for r in results["libpcap loop"])
    ours = statistics.median(r[0] for r in results["rasaudit, 1 worker"])
    print(f"\n{shape}: {truth}\n")
    print("| program | CPU s | wall s | peak MiB | CPU against the libpcap loop | against our audit |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, runs in results.items():
        runs = [r for r in runs if r is not None]
        if not runs:
            print(f"| {name} | more than {LIMIT} | | | | |")
            continue
        cpu, wall, peak = (statistics.median(r[i] for r in runs) for i in range(3))
        print(f"| {name} | {cpu:.2f} | {wall:.2f} | {peak:.0f} | {cpu / base:.2f} | {cpu / ours:.2f} |")
        if name.startswith("rasaudit, 1 worker") and not name.endswith("--out"):
            path = statistics.median(packet_path(r[3]) for r in runs)
            print(f"| {name}, packet path | {path:.2f} | | | {path / base:.2f} | {path / ours:.2f} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

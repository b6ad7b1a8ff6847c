#!/usr/bin/env python3
"""Counts the instructions that a release build executes for a frame and for a flow.

    cargo build --release
    benches/instructions.py [PROGRAM]

Unlike times, the counts are nearly the same on every machine. valgrind counts the instructions of
the whole audit with one worker. Two captures with the same flows and different numbers of frames give
the count for a frame. Two captures with different numbers of flows give the count for a flow. Starting,
loading the rules and writing the summary therefore do not count. The flows are TCP connections of
listed clients to a listed gateway. Exits with 1 if a count is above its ceiling or an audit fails.
"""

import ipaddress
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# About 5 % above the measured counts of frames, and 1 % above that of a flow. Raise the ceilings only
# for a deliberate reason, which the commit states.
CEILINGS = {"IPv4": 1490, "IPv6": 1610, "VLAN": 1520, "flow": 8850}

INVENTORY = """\
[farm]
name = "instructions"
matrix = "ras-19"

[[host]]
name = "gw1"
addresses = ["10.0.0.1", "fd00::1"]
roles = ["gateway-normal"]

[[network]]
name = "clients"
cidr = "10.1.0.0/16"
roles = ["client"]

[[network]]
name = "clients6"
cidr = "fd00:1::/64"
roles = ["client"]
"""


def ipv4(source, target, segment):
    """Returns an IPv4 packet with a valid checksum."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 1, 0, 64, 6, 0, source, target)
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + segment


def ipv6(source, target, segment):
    """Returns an IPv6 packet."""
    return struct.pack("!IHBB16s16s", 6 << 28, len(segment), 6, 64, source, target) + segment


def ethernet(kind, number, packet):
    """Returns a frame whose source MAC address contains the number of a connection. `kind` determines
    the EtherType and the VLAN tag."""
    vlan = b"\x81\x00\x00\x07" if kind == "VLAN" else b""
    ethertype = b"\x86\xdd" if kind == "IPv6" else b"\x08\x00"
    return b"\x02\0\0\0\0\1" + b"\x02\0\0" + struct.pack("!I", number)[1:] + vlan + ethertype + packet


def capture(path, kind, flows, data):
    """Writes a capture of `flows` connections with a handshake and `data` segments each. Returns the
    number of frames."""
    wrap = ipv6 if kind == "IPv6" else ipv4
    server = ipaddress.ip_address("fd00::1" if kind == "IPv6" else "10.0.0.1").packed
    first = int(ipaddress.ip_address("fd00:1::" if kind == "IPv6" else "10.1.0.0"))
    time = 0
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for start in range(0, flows, 50):
            # The segments of 50 connections alternate, as in real traffic.
            for step in range(3 + data):
                for number in range(start, min(start + 50, flows)):
                    client = ipaddress.ip_address(first + 1 + number // 4).packed
                    port = 50_000 + number % 4
                    flags = {0: 0x02, 1: 0x12}.get(step, 0x10)
                    to_client = step % 2 == 1
                    ends = (server, client) if to_client else (client, server)
                    ports = (443, port) if to_client else (port, 443)
                    seq, ack = 1000 + step * 64, 1001 + step * 64 - 64
                    if step == 1:
                        ack = 1001
                    segment = struct.pack("!HHIIBBHHH", *ports, seq, ack, 0x50, flags, 1000, 0, 0)
                    frame = ethernet(kind, number, wrap(*ends, segment + (b"x" * 64 if step > 2 else b"")))
                    time += 100
                    out.write(struct.pack("<IIII", 1_780_000_000 + time // 10**6, time % 10**6, len(frame), len(frame)))
                    out.write(frame)
    return flows * (3 + data)


def instructions(program, path, folder):
    """Returns the number of instructions that an audit executes."""
    out = folder / "callgrind"
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", program, "audit", path]
    command += ["-i", folder / "inventory.toml", "-q", "--jobs", "1", "--fail-on", "never", "--no-config"]
    run = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode not in (0, 3) or not found:
        sys.exit(f"the audit failed: {run.stderr}")
    return int(found.group(1))


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target/release/rasaudit")
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "inventory.toml").write_text(INVENTORY)
        path = folder / "capture.pcap"

        def cost(kind, flows, data):
            return capture(path, kind, flows, data), instructions(program, path, folder)

        for kind in ("IPv4", "IPv6", "VLAN"):
            (few, cheap), (many, dear) = cost(kind, 400, 20), cost(kind, 400, 60)
            found[kind] = (dear - cheap) / (many - few)
        (few, cheap), (many, dear) = cost("IPv4", 1000, 5), cost("IPv4", 4000, 5)
        found["flow"] = (dear - cheap - found["IPv4"] * (many - few)) / 3000
    print("| | instructions | ceiling |\n| --- | --- | --- |")
    for kind, count in found.items():
        unit = "a flow" if kind == "flow" else f"a frame of {kind}"
        print(f"| {unit} | {count:.0f} | {CEILINGS[kind]} |")
    sys.exit(any(count > CEILINGS[kind] for kind, count in found.items()))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Measures how the cost of an audit grows with its input, and how much memory floods take.

    cargo build --release --locked && cargo build --release --locked --example generate
    benches/growth.py target/release/rasaudit target/release/examples/generate

Prints a table with the processor time for four sizes of each kind of input, and the exponent of the
growth: the slope of the logarithms, without the time that an audit of almost nothing takes. The
exponent of linear growth is 1, and that of n log n is at most 1.15 at these sizes. A second table
shows the peak memory of floods, with --out, next to the limit of --max-memory.

Ends with status 1 if an exponent is above 1.25 or a flood exceeds its limit by more than 64 MiB. RUNS
sets the number of runs of each audit in the first table (3), of which the fastest counts. Each flood
is audited once. SCALE divides all sizes (1). ONLY names one kind of input or one flood. LIMIT is
--max-memory for the floods in MiB (1024).
"""

import math
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

RUNS = int(os.environ.get("RUNS", "3"))
SCALE = int(os.environ.get("SCALE", "1"))
ONLY = os.environ.get("ONLY", "")
LIMIT = int(os.environ.get("LIMIT", "1024"))

FARM = '[farm]\nname = "Growth"\nmatrix = "ras-19"\n'


def measured(command):
    """Returns processor seconds and peak MiB of a command. Ends the script if the command fails."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.execv(command[0], command)
    _, status, usage = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


class Capture:
    """Writes a pcap file."""

    def __init__(self, path):
        self.out = open(path, "wb")
        self.out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        self.count = 0

    def frame(self, frame):
        frame = frame.ljust(60, b"\0")
        micros = self.count * 20
        self.count += 1
        head = struct.pack("<IIII", 1780000000 + micros // 1000000, micros % 1000000, len(frame), len(frame))
        self.out.write(head + frame)

    def tcp(self, source, target, sport, port, flags=2, seq=1, ack=0):
        segment = struct.pack(">HHIIBBHHH", sport, port, seq, ack, 0x50, flags, 8192, 0, 0)
        header = struct.pack(">BBHHHBBHII", 0x45, 0, 40, self.count & 0xFFFF, 0, 60, 6, 0, source, target)
        total = sum(struct.unpack(">10H", header))
        total = (total & 0xFFFF) + (total >> 16)
        total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        self.frame(ethernet(source, target, 0x0800) + header[:10] + struct.pack(">H", total) + header[12:] + segment)

    def close(self):
        self.out.close()


def ethernet(source, target, kind):
    return b"\x02\0" + struct.pack(">I", target) + b"\x02\0" + struct.pack(">I", source) + struct.pack(">H", kind)


def dotted(address):
    return ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))


def host(number, role="rdsh-agent", mac=False):
    address = 0x0A140001 + number
    macs = f'macs = ["02:00:{address >> 24:02x}:{address >> 16 & 255:02x}:{address >> 8 & 255:02x}:{address & 255:02x}"]\n'
    return f'\n[[host]]\nname = "h{number}"\naddresses = ["{dotted(address)}"]\nroles = ["{role}"]\n' + macs * mac


def write(path, text):
    with open(path, "w", encoding="utf-8") as out:
        out.write(text)


class Inputs:
    """Writes the captures and inventories. Each method returns the arguments of an audit."""

    def __init__(self, scratch, generate):
        self.scratch, self.generate = scratch, generate
        self.capture, self.farm = f"{scratch}/c.pcap", f"{scratch}/farm.toml"

    def generated(self, shape, packets, flows, *more):
        arguments = ["--packets", str(packets), "--flows", str(flows), "--inventory", self.farm, *more]
        subprocess.run([self.generate, shape, self.capture, *arguments], check=True, stdout=subprocess.DEVNULL)
        return [self.capture, "-i", self.farm]

    def packets(self, n):
        return self.generated("small", n, 10000)

    def flows(self, n):
        return self.generated("small", 4 * n, n)

    def findings(self, n):
        return self.generated("hostile", 4 * n, n)

    def handshakes(self, farm, port, pairs):
        """A handshake of each client with its server."""
        write(self.farm, FARM + farm)
        out = Capture(self.capture)
        for client, server in pairs:
            out.tcp(client, server, 50000, port)
            out.tcp(server, client, port, 50000, 0x12, 9, 2)
            out.tcp(client, server, 50000, port, 0x10, 2, 10)
        out.close()
        return [self.capture, "-i", self.farm]

    def conversations(self, n):
        """Documented connections of different clients, each of them a conversation of its own."""
        network = '\n[[network]]\nname = "clients"\ncidr = "100.0.0.0/10"\nroles = ["parallels-client"]\n'
        farm = host(0, "gateway-normal") + network
        return self.handshakes(farm, 443, ((0x64000001 + k, 0x0A140001) for k in range(n)))

    def one_role(self, n):
        """Hosts of one role, each of which connects to a broker."""
        farm = host(0, "broker") + "".join(host(1 + k) for k in range(n))
        return self.handshakes(farm, 20003, ((0x0A140002 + k, 0x0A140001) for k in range(n)))

    def hosts(self, n):
        return self.generated("mixed", 20000, 4000, "--more-hosts", str(n))

    def networks(self, n):
        arguments = self.generated("hostile", 4000, 1000)
        networks = (
            f'\n[[network]]\nname = "n{k}"\ncidr = "{dotted(0x0B000000 | k << 6)}/26"\nroles = ["parallels-client"]\n'
            for k in range(n)
        )
        with open(self.farm, "a", encoding="utf-8") as out:
            out.writelines(networks)
        return arguments

    def exceptions(self, n):
        arguments = self.generated("hostile", 80000, 20000)
        lines = (
            f"e{k},10.20.{16 + k // 250 % 3}.{1 + k % 250},*,tcp,{1 + k * 6},to-server,team,test,office,2026-01-01,2027-12-31,\n"
            for k in range(n)
        )
        header = "id,from,to,transport,port,direction,owner,reason,approved_by,created,expires,ticket\n"
        write(f"{self.scratch}/exceptions.csv", header + "".join(lines))
        return [*arguments, "--exceptions", f"{self.scratch}/exceptions.csv"]

    def link_local(self, n):
        """Hosts that use link-local addresses, which are derived from listed hardware addresses."""
        write(self.farm, FARM + "".join(host(k, mac=True) for k in range(n)))
        out = Capture(self.capture)
        for k in range(n):
            ends = [0x0A140001 + k, 0x0A140001 + (k + 1) % n]
            parts = [
                b"\xfe\x80" + bytes(6) + b"\x00\x00" + struct.pack(">BB", end >> 24, 0xFF) + b"\xfe"
                + struct.pack(">I", end)[1:]
                for end in ends
            ]
            segment = struct.pack(">HHIIBBHHH", 40000 + k % 20000, 445, 1, 0, 0x50, 2, 8192, 0, 0)
            out.frame(ethernet(*ends, 0x86DD) + struct.pack(">IHBB", 0x60000000, 20, 6, 64) + b"".join(parts) + segment)
        out.close()
        return [self.capture, "-i", self.farm]

    def claims(self, n):
        """ARP replies in which up to 100 hardware addresses in turn claim each of 100 IP addresses."""
        write(self.farm, FARM + "".join(host(k) for k in range(100)))
        out = Capture(self.capture)
        for k in range(n):
            address = 0x0A140001 + k % 100
            sender = b"\x02\x11" + struct.pack(">I", k // 100 % 2 * 0x01000000 + k // 200 % 50)
            claim = struct.pack(">HHBBH", 1, 0x0800, 6, 4, 2) + sender + struct.pack(">I", address)
            out.frame(b"\xff" * 6 + sender + b"\x08\x06" + claim + sender + struct.pack(">I", address))
        out.close()
        return [self.capture, "-i", self.farm]

    def files(self, n):
        folder = f"{self.scratch}/files"
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        write(self.farm, FARM + host(0) + host(1, "broker"))
        for k in range(n):
            out = Capture(f"{folder}/{k:05}.pcap")
            out.tcp(0x0A140001, 0x0A140002, 1024 + k, 20003)
            out.close()
        return [folder, "-i", self.farm]

    def scan(self, n):
        """A listed host scans ports of 200 listed hosts, which refuse."""
        write(self.farm, FARM + "".join(host(k) for k in range(201)))
        out = Capture(self.capture)
        for k in range(n):
            target, port = 0x0A140002 + k % 200, 1 + k // 200
            out.tcp(0x0A140001, target, 50000, port)
            out.tcp(target, 0x0A140001, port, 50000, 0x14, 0, 2)
        out.close()
        return [self.capture, "-i", self.farm]

    def spoofed(self, n):
        """SYNs from random addresses."""
        return self.syns(n, 0, 32)

    def members(self, n):
        """SYNs from random addresses of a listed network."""
        return self.syns(n, 0x64000000, 22)

    def syns(self, n, prefix, bits):
        network = '\n[[network]]\nname = "clients"\ncidr = "100.0.0.0/10"\nroles = ["parallels-client"]\n'
        write(self.farm, FARM + "".join(host(k, "gateway-normal") for k in range(3)) + network)
        numbers = random.Random(7)
        out = Capture(self.capture)
        for _ in range(n):
            source = prefix | numbers.getrandbits(bits)
            out.tcp(source, 0x0A140001 + numbers.randrange(3), numbers.randrange(1024, 65536), numbers.choice([443, 80, 20003]))
        out.close()
        return [self.capture, "-i", self.farm]

    def failing(self, n):
        """Documented connections between listed hosts. The servers refuse all of them."""
        agents = max(n // 16, 1)
        write(self.farm, FARM + "".join(host(k) for k in range(agents)) + "".join(host(agents + k, "broker") for k in range(16)))
        out = Capture(self.capture)
        for k in range(n):
            ends = [0x0A140001 + k // 16 % agents, 0x0A140001 + agents + k % 16]
            out.tcp(*ends, 50000 + k % 10000, 20003)
            out.tcp(*reversed(ends), 20003, 50000 + k % 10000, 0x14, 0, 2)
        out.close()
        return [self.capture, "-i", self.farm]


def exponent(sizes, times, base):
    """Returns the slope of the line through the logarithms of the sizes and of the times less `base`."""
    points = [(math.log(n), math.log(max(time - base, 1e-3))) for n, time in zip(sizes, times)]
    mean = [sum(values) / len(points) for values in zip(*points)]
    over = sum((x - mean[0]) * (y - mean[1]) for x, y in points)
    return over / sum((x - mean[0]) ** 2 for x, _ in points)


def growth(program, inputs):
    """Prints the table of growth. Returns whether any exponent is too high."""
    largest = {
        "packets": 1600000, "flows": 400000, "conversations": 400000, "findings": 160000, "hosts": 100000,
        "one_role": 100000, "networks": 160000, "exceptions": 10000,
        "link_local": 40000, "claims": 400000, "files": 10000, "failing": 160000,
    }
    print("| input | sizes | processor time in s | exponent |\n| --- | --- | --- | --- |")
    is_bad = False
    for name, top in largest.items():
        if ONLY and ONLY != name:
            continue
        sizes = [max(top // SCALE // divisor, 8) for divisor in (8, 4, 2, 1)]
        times = []
        for n in [1, *sizes]:
            command = [program, "audit", "--jobs", "1", *getattr(inputs, name)(n)]
            times.append(min(measured(command)[0] for _ in range(RUNS)))
        base, *times = times
        slope = exponent(sizes, times, base)
        is_bad |= slope > 1.25
        shown = ", ".join(f"{time:.2f}" for time in times)
        print(f"| {name} | {', '.join(map(str, sizes))} | {shown} | {slope:.2f} |", flush=True)
    return is_bad


def floods(program, inputs):
    """Prints the table of floods. Returns whether any of them takes too much memory."""
    print("\n| flood | size | --max-memory MiB | peak MiB | processor time in s |\n| --- | --- | --- | --- | --- |")
    is_bad = False
    for name, n in (("spoofed", 1000000), ("members", 1000000), ("failing", 1000000), ("scan", 65535 * 200)):
        if ONLY and ONLY != name:
            continue
        out = f"{inputs.scratch}/out"
        shutil.rmtree(out, ignore_errors=True)
        command = [program, "audit", "--jobs", "1", "-q", *getattr(inputs, name)(n // SCALE)]
        time, peak = measured([*command, "--max-memory", f"{LIMIT}MiB", "--out", out])
        is_bad |= peak > LIMIT + 64
        print(f"| {name} | {n // SCALE} | {LIMIT} | {peak:.0f} | {time:.2f} |", flush=True)
    return is_bad


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, generate = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Inputs(scratch, generate)
        is_bad = growth(program, inputs)
        is_bad |= floods(program, inputs)
    sys.exit(int(is_bad))


if __name__ == "__main__":
    main()

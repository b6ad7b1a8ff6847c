#!/usr/bin/env python3
"""Writes the seed corpora of the fuzz targets (fuzz/corpus/TARGET/) from the project's fixtures and rules."""

import bz2, gzip, hashlib, lzma, re, struct
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz/corpus"
# In the order of the list, because the fuzz target selects a link type by its index.
LINKS = [int(number) for number in
         re.findall(r"\blink\(\s*(\d+),", (ROOT / "src/decode/link/mod.rs").read_text().split("#[cfg(test)]")[0])]
FILES = ["matrix.csv", "roles.csv", "features.csv", "services.csv", "severity.csv", "endpoints.csv",
         "network-background.csv"]
LIMIT = 4096


def put(target, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def records(data):
    at = 24
    while at + 16 <= len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at : at + 16 + length]
        at += 16 + length


for path in sorted(ROOT.glob("fixtures/**/*.pcap*")):
    data = path.read_bytes()
    small = data[:LIMIT]
    if data[:4] == b"\xd4\xc3\xb2\xa1":
        small, link = data[:24], struct.unpack_from("<I", data, 20)[0]
        for number, record in enumerate(records(data)):
            if len(small) + len(record) <= LIMIT:
                small += record
            if link in LINKS and number < 100:
                put("decode", bytes([LINKS.index(link), 0, 0, 0]) + record[16:])
    put("tables", small)
    if path.parent.name == "services":
        # The payload of each IPv4 frame, whatever its ports, once for each kind of packet that the
        # target can put it into.
        for record in records(data):
            frame = record[16:]
            if frame[12:14] == b"\x08\x00":
                above = frame[14 + (frame[14] & 15) * 4:]
                skip = {6: above[12] // 16 * 4 if len(above) > 12 else 0, 17: 8}.get(frame[23], 0)
                for way in range(8) if above[skip:] else ():
                    put("names", bytes([way, 99]) + above[skip:])
    for packed in (small, gzip.compress(small, mtime=0), bz2.compress(small), lzma.compress(small)):
        put("reader", packed)
for path in sorted(ROOT.glob("fixtures/**/*.toml")) + [ROOT / "src/policy/template.toml"]:
    put("inventory", path.read_bytes()[:LIMIT])
put("inventory", b"name,addresses,roles,macs\ngw1,10.0.0.1;fd00::1,gateway-normal,00:15:5d:10:00:07\n")
for path in sorted(ROOT.glob("rules/**/*.csv")):
    if path.name in FILES:
        number = bytes([FILES.index(path.name)])
        lines = path.read_bytes().splitlines(keepends=True)
        put("rules", number + b"".join(lines[:20]))
        put("rules", number + b"".join(lines[:1] + lines[-10:]))

"""Writes a pcap file with frames from random addresses to a farm: flood.py FILE FRAMES

The random numbers have a fixed seed, so the bytes are always the same.
"""
import random
import struct
import sys


def checksum(data):
    total = sum(struct.unpack(">%dH" % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    return ~total & 0xFFFF


def main(path, count):
    random.seed(7)
    targets = [0x0A140115, 0x0A14011F, 0x0A140133]
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number in range(count):
            source, target = random.getrandbits(32), random.choice(targets)
            sport = random.randint(1024, 65535)
            dport = random.choice([443, 20003, 80, random.randint(1, 65535)])
            if number % 3:
                above = struct.pack(">HHIIBBHHH", sport, dport, random.getrandbits(32), 0, 0x50, 2, 8192, 0, 0)
                protocol = 6
            else:
                above, protocol = struct.pack(">HHHH", sport, dport, 18, 0) + b"0123456789", 17
            header = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(above), number & 0xFFFF, 0, 60, protocol, 0, source, target)
            header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
            frame = bytes.fromhex("0200000000010200000000020800") + header + above
            out.write(struct.pack("<IIII", 1700000000 + number // 100000, number % 100000 * 10, len(frame), len(frame)))
            out.write(frame)


main(sys.argv[1], int(sys.argv[2]))

#!/usr/bin/env python3
"""Writes the licences of all software that the binary contains.

    notices.py OUT                      licences of the crates
    notices.py OUT --static LIBPCAP     also licences of the libraries in the static binary;
                                        LIBPCAP is the folder that libpcap.sh made

The crates are those that the program is linked with on x86-64 Linux, and the macro crates that
generate parts of its code. Crates that only tests and build scripts use are not in the binary. The
script fails if a crate does not state a licence, or if the text of its licence is missing.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

TRIPLE = "x86_64-unknown-linux-gnu"
ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMES = re.compile(r"(licen[cs]e|copying|copyright|notice|unlicense|ofl)([-._].*)?", re.IGNORECASE)

# Crates that contain a C library with a licence of its own.
BUNDLED = {
    "liblzma-sys": ["xz/COPYING", "xz/COPYING.0BSD"],
    "zstd-sys": ["zstd/LICENSE"],
}


def cargo(*arguments):
    command = ["cargo", *arguments, "--locked", "--offline"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{done.stderr}")
    return done.stdout


def linked():
    """Returns the name and version of every crate in the binary, except rasaudit itself."""
    # Unlike `cargo metadata`, `cargo tree` leaves out optional crates that only tests enable. It
    # also lists the dependencies of macro crates, which are not in the binary and are skipped here.
    lines = cargo("tree", "--edges", "normal", "--target", TRIPLE, "--prefix", "depth", "--no-dedupe",
                  "--format", " {p}").splitlines()
    found, inside = set(), None
    for line in lines:
        depth, name, version, *rest = line.split()
        depth = int(depth)
        if inside is not None and depth > inside:
            continue
        inside = depth if "(proc-macro)" in rest else None
        if depth > 0:
            found.add((name, version.removeprefix("v")))
    return found


def texts(package):
    """Returns the licence texts of a crate."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = [file for file in sorted(folder.iterdir()) if NAMES.fullmatch(file.name)]
    # Some crates have a folder that contains the texts.
    files = [inner for file in files for inner in (sorted(file.iterdir()) if file.is_dir() else [file])]
    stated = package.get("license_file")
    if stated and (folder / stated).is_file() and folder / stated not in files:
        files.append(folder / stated)
    files += [folder / name for name in BUNDLED.get(package["name"], [])]
    if not files:
        files = substitute(package)
    return [file.read_text(encoding="utf-8", errors="replace") for file in files]


def substitute(package):
    """Returns the licence text of a crate whose package does not contain one."""
    # packaging/licences contains texts for crates whose packages lack them.
    kept = ROOT / "packaging" / "licences" / package["name"]
    if kept.is_file():
        return [kept]
    # This text is the same for all crates, because it does not name the copyright holder.
    if "Apache-2.0" in re.split(r"[\s/()]+", package["license"]) and " AND " not in package["license"]:
        return [ROOT / "LICENSE-APACHE"]
    return []


def system(libpcap):
    """Returns the name, licence and texts of each part of the static binary that is not a crate."""
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], cwd=ROOT, capture_output=True, text=True,
                             check=True).stdout.strip()
    common = pathlib.Path("/usr/share/common-licenses")
    version = (libpcap / "version").read_text().strip()
    relink = (
        "The GNU C Library is linked statically. Everything that is needed to link the program with another "
        "version of it is public: the program's source code, and `make dist`, which builds this binary.\n\n")
    return [
        (f"libpcap {version}", "BSD-3-Clause", [(libpcap / "libpcap-licence").read_text()]),
        ("GNU C Library", "LGPL-2.1-or-later", [
            relink + pathlib.Path("/usr/share/doc/libc6/copyright").read_text(encoding="utf-8"),
            (common / "LGPL-2.1").read_text()]),
        ("libgcc", "GPL-3.0-or-later WITH GCC-exception-3.1", [gcc_exception(pathlib.Path(sysroot))]),
    ]


def gcc_exception(sysroot):
    """Returns the text of the exception that permits programs to contain parts of libgcc."""
    for file in (sysroot / "share/doc/rust/licenses/GCC-exception-3.1.txt",
                 pathlib.Path("/usr/share/doc/gcc-12-base/copyright"),
                 pathlib.Path("/usr/share/doc/libgcc-s1/copyright")):
        if file.is_file():
            return file.read_text(encoding="utf-8")
    sys.exit("no text of the GCC Runtime Library Exception on this system")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--static", type=pathlib.Path, metavar="LIBPCAP")
    arguments = parser.parse_args()
    wanted = linked()
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--filter-platform", TRIPLE))
    packages = {(package["name"], package["version"]): package for package in metadata["packages"]}
    entries, without = [], []
    for name, version in sorted(wanted):
        package = packages[name, version]
        found = texts(package) if package["license"] else []
        if not found:
            without.append(f"{name} {version}: {package['license'] or 'no licence'}")
        entries.append((f"{name} {version}", package["license"], found))
    if without:
        sys.exit("no licence text for\n  " + "\n  ".join(without)
                 + "\nPut the text that the crate's repository has into packaging/licences/NAME.")
    rust = (ROOT / "LICENSE-APACHE").read_text()
    entries.append(("Rust standard library", "MIT OR Apache-2.0", [rust]))
    if arguments.static:
        entries += system(arguments.static)

    # Many crates have the same text, apart from white space and line breaks.
    shared = {}
    for title, _, found in entries:
        for text in found:
            titles = shared.setdefault(" ".join(text.split()), (text.strip("\n"), []))[1]
            if title not in titles:
                titles.append(title)
    out = ["rasaudit contains the following software. The texts of the licences follow.", ""]
    out += [f"{title}: {licence}" for title, licence, _ in entries]
    for text, titles in shared.values():
        out += ["", "=" * 78, ""]
        out += [f"{title}" for title in titles]
        out += ["", "-" * 78, "", "\n".join(line.rstrip() for line in text.splitlines())]
    arguments.out.write_text("\n".join(out) + "\n", encoding="utf-8")
    print(f"{arguments.out.name}: {len(entries)} parts, {len(shared)} texts")


main()

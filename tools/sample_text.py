#!/usr/bin/env python3
"""Draws a reproducible sample of the project's English, for a reader who did not write it.

    tools/sample_text.py SEED [BINARY] > sample.md

The sample has 100 comments of the source, 50 messages, every help text (of BINARY, by default
target/debug/rasaudit) and ten passages of the documentation, numbered. The reader marks each item
that wants a rewrite; at most 5 in 100 may. The same seed, tree and binary draw the same sample.
"""

import pathlib
import random
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def sources(*folders):
    """Returns the Rust files below the folders, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.rs"))


def comments(path):
    """Yields each block of comment lines of a file, with its first line number and the code below."""
    lines = path.read_text().splitlines()
    number = 0
    while number < len(lines):
        match = re.match(r"\s*(//[/!]?) ?", lines[number])
        if not match:
            number += 1
            continue
        marker, start, block = match.group(1), number, []
        while number < len(lines) and re.match(rf"\s*{marker}( |$)", lines[number]):
            block.append(lines[number].strip()[len(marker):].strip())
            number += 1
        below = lines[number].strip() if number < len(lines) else ""
        yield f"{path.relative_to(ROOT)}:{start + 1}", " ".join(block), below


def messages(path):
    """Yields the string literals of a file that are sentences or parts of them."""
    text = path.read_text()
    code = re.split(r"#\[cfg\(test\)\]\s*mod ", text)[0]
    code = re.sub(r"(?m)^\s*//.*$", lambda match: " " * len(match.group(0)), code)
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"', code, re.S):
        words = re.sub(r"\\\n\s*", "", match.group(1)).replace("\\n", " ").strip()
        if len(re.findall(r"\b[a-z]{2,}\b", words)) >= 4 and not re.search(r"[<>;]{2}|--[a-z]+=|/\w+/\w+/", words):
            yield f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}", words, ""


def help_texts(binary, command=()):
    """Yields the help of a command and of its subcommands."""
    shown = subprocess.run([binary, *command, "--help"], capture_output=True, text=True, check=True).stdout
    yield " ".join(("rasaudit", *command, "--help")), shown, None
    listed = re.search(r"^Commands:\n((?:  .*\n)+)", shown, re.M)
    for line in listed.group(1).splitlines() if listed else []:
        name = re.match(r"  (\S+)", line)
        if name and name.group(1) != "help":
            yield from help_texts(binary, (*command, name.group(1)))


def passages():
    """Yields the paragraphs, list items and tables of the documentation that have at least 25 words."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
        for block in re.split(r"\n\s*\n", text):
            if len(block.split()) >= 25:
                yield str(path.relative_to(ROOT)), block, None


def main():
    """Prints the sample as Markdown."""
    seed = sys.argv[1] if len(sys.argv) > 1 else "1"
    binary = sys.argv[2] if len(sys.argv) > 2 else str(ROOT / "target/debug/rasaudit")
    draw = random.Random(seed)
    kinds = [
        ("comments", [item for path in sources("src", "tests", "benches") for item in comments(path)], 100),
        ("messages", [item for path in sources("src") for item in messages(path)], 50),
        ("help texts", list(help_texts(binary)), None),
        ("passages", list(passages()), 10),
    ]
    print(f"# Sample {seed}")
    for name, items, count in kinds:
        chosen = items if count is None else sorted(draw.sample(items, count))
        print(f"\n## {len(chosen)} of {len(items)} {name}\n")
        for number, (place, text, below) in enumerate(chosen, 1):
            if below is None:
                print(f"### {number}. {place}\n\n{text}\n")
            else:
                print(f"{number}. `{place}` {text}" + (f"  [above `{below}`]" if below else ""))


main()

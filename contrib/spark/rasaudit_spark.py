"""Collects captures into a store of evidence rows with Spark.

    spark-submit --files /usr/bin/rasaudit rasaudit_spark.py CAPTURE... --to STORE

A task for each capture runs `rasaudit collect`, Spark groups the rows by bucket, and each further
task runs `rasaudit merge` on one or more of these groups. docs/how-to/audit-with-spark.md describes the
job.
"""

import argparse
import contextlib
import itertools
import os
import re
import shlex
import subprocess
import sys
import tempfile

import pyarrow
from pyspark import SparkFiles, TaskContext
from pyspark.sql import SparkSession

# The types of the columns in Spark, by their names in Arrow.
TYPES = {"int32": "int", "int64": "bigint", "string": "string", "binary": "binary"}


def rows(arguments, batches=()):
    """Runs rasaudit with rows as its input, and yields the rows that it writes."""
    command = [SparkFiles.get("rasaudit"), *arguments]
    failure = None
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            stream = None
            for batch in batches:
                stream = stream or pyarrow.ipc.new_stream(process.stdin, batch.schema)
                stream.write_batch(batch)
            if stream:
                stream.close()
            process.stdin.close()
            yield from pyarrow.ipc.open_stream(process.stdout)
        except (OSError, pyarrow.ArrowInvalid) as error:
            failure = error  # Usually, the process ended; its status and errors give the reason.
            with contextlib.suppress(OSError):
                process.stdin.close()
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            status = process.wait()
        if status != 0 or failure:
            errors.seek(0)
            text = errors.read().decode(errors="replace")
            words = shlex.join(os.fsdecode(word) for word in command)
            raise RuntimeError(f"{words}: status {status}, {failure}\n{text}")


class CopyError(Exception):
    """A file cannot be copied from a Hadoop file system."""


def fetch(uri, folder, configuration):
    """Copies a file from a Hadoop file system into a folder. Returns the path of the copy."""
    with open(os.path.join(folder, "core-site.xml"), "w", encoding="utf-8") as file:
        file.write(configuration)
    home = os.environ.get("SPARK_HOME", "")
    jars = [SparkFiles.getRootDirectory(), os.path.join(home, "jars")]
    path = [folder, *(f"{jar}/*" for jar in jars), os.environ.get("CLASSPATH", "")]
    java = os.path.join(os.environ["JAVA_HOME"], "bin/java") if "JAVA_HOME" in os.environ else "java"
    copy = os.path.join(folder, "capture")
    literal = re.sub(r"([\\*?\[\]{}^])", r"\\\1", uri)
    shell = [java, "-cp", ":".join(path), "org.apache.hadoop.fs.FsShell", "-get", literal, copy]
    done = subprocess.run(shell, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise CopyError(f"the file cannot be copied: {done.stderr.decode(errors='replace').strip()}")
    return copy


def collect(places, options, inventory, configuration, attempts):
    """Returns the function that turns the numbers of captures into rows. A capture that cannot be
    copied at the last of several attempts becomes a row with the error."""

    def task(batches):
        more = ["--inventory", SparkFiles.get(os.path.basename(inventory))] if inventory else []
        for number in itertools.chain.from_iterable(batch["id"].to_pylist() for batch in batches):
            path, failure = places[number], []
            name = shown(path).encode()
            with tempfile.TemporaryDirectory() as folder:
                # A capture on a local path is read where it is.
                if isinstance(path, str):
                    try:
                        path = fetch(path, folder, configuration)
                    except CopyError as error:
                        if TaskContext.get().attemptNumber() + 1 < attempts:
                            raise
                        path, failure = "-", ["--unreadable", str(error)]
                fixed = ["collect", path, "--name", name, "--to", "-", *failure]
                yield from rows([*fixed, *options, *more])

    return task


def merge(batches):
    """Merges the rows of the buckets in one Spark partition."""
    first = next(batches, None)
    if first is not None:
        yield from rows(["merge", "-", "--to", "-"], itertools.chain([first], batches))


def shown(place):
    """Returns the name of a local path (bytes) or an address (text) in the reports."""
    return place.decode(errors="backslashreplace") if isinstance(place, bytes) else place


def expand(jvm, pattern):
    """Returns the local paths that a pattern of Hadoop matches. The search of Hadoop leaves out links
    to nothing, and names that Java cannot represent in its locale."""
    hadoop = jvm.org.apache.hadoop.fs
    found = []
    for path in hadoop.GlobExpander.expand(pattern):
        matches = [b"/"]
        for part in filter(None, path.split("/")):
            glob = hadoop.GlobPattern(part)
            if glob.hasWildcard():
                fits = re.compile(glob.compiled().pattern(), re.DOTALL).fullmatch
                folders = {top: os.listdir(top) for top in matches if os.path.isdir(top)}
                listed = ((top, name) for top, names in folders.items() for name in names)
                matches = [os.path.join(top, name) for top, name in listed if fits(shown(name))]
            else:
                literal = os.fsencode(re.sub(r"\\(.)", r"\1", part))
                matches = [os.path.join(top, literal) for top in matches]
        found += filter(os.path.lexists, matches)
    return found


def local_files(path):
    """Yields the files at a local path, with their sizes. As in an audit, links to folders in a folder
    are not followed, and a link to nothing is a file that cannot be read."""

    def stop(error):
        raise error

    folders = os.walk(path, onerror=stop) if os.path.isdir(path) else [(b"", [], [path])]
    for folder, _, names in folders:
        for file in (os.path.join(folder, name) for name in names):
            if os.path.isfile(file):
                yield file, os.path.getsize(file)
            elif not os.path.exists(file):
                yield file, 0
            else:
                print(f"warning: {printable(shown(file))}: skipped; not a file", file=sys.stderr)


def hadoop_files(system, match):
    """Yields the addresses of the files at a path of a Hadoop file system, with their sizes."""
    files = system.listFiles(match.getPath(), True)
    while files.hasNext():
        file = files.next()
        yield file.getPath().toString(), file.getLen()


def find(spark, arguments):
    """Returns the files that the arguments name, with their sizes, the largest first. A local file is a
    path in bytes, because its name may not be valid text. Any other file is the text of its address."""
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    found = {}
    for argument in arguments:
        path = spark._jvm.org.apache.hadoop.fs.Path(argument)
        system = path.getFileSystem(configuration)
        try:
            if system.getUri().getScheme() == "file":
                matches = expand(spark._jvm, system.makeQualified(path).toUri().getPath())
                files = itertools.chain.from_iterable(map(local_files, matches))
            else:
                matches = system.globStatus(path)
                files = (file for match in matches or [] for file in hadoop_files(system, match))
            if not matches:
                sys.exit(f"error: {argument}: no such file or folder")
            found.update(files)
        except OSError as error:
            sys.exit(f"error: {printable(shown(error.filename))}: {error.strerror}")
    if not found:
        sys.exit("error: the folders contain no files")
    return sorted(found.items(), key=lambda file: (-file[1], shown(file[0]))), configuration


def as_text(spark, configuration):
    """Returns a Hadoop configuration as XML."""
    writer = spark._jvm.java.io.StringWriter()
    configuration.writeXml(writer)
    return writer.toString()


def printable(text):
    """Returns a text with its control characters escaped."""
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def main():
    parser = argparse.ArgumentParser(description="Collects captures into a store with Spark.")
    parser.add_argument("captures", nargs="+", metavar="CAPTURE", help="file, folder or pattern")
    parser.add_argument("--to", required=True, metavar="STORE", help="folder that does not exist yet")
    parser.add_argument("--inventory", metavar="FILE", help="inventory whose tunnels are used")
    parser.add_argument("--options", default="", help="more options of rasaudit collect, in one string")
    parser.add_argument("--strict", action="store_true", help="exit with 3 if a capture has an error")
    arguments = parser.parse_args()

    spark = SparkSession.builder.appName("rasaudit").getOrCreate()
    context = spark.sparkContext
    files, configuration = find(spark, arguments.captures)
    places = [place for place, _ in files]
    print(f"captures: {len(files)}, bytes: {sum(size for _, size in files)}", file=sys.stderr)
    options = ["--quiet", "--no-config", "--jobs", spark.conf.get("spark.task.cpus", "1")]
    options += shlex.split(arguments.options)
    if arguments.inventory:
        context.addFile(arguments.inventory)

    # An empty input gives the columns, and shows that the program runs.
    empty = rows(["collect", "-", "--name", "empty", "--to", "-"])
    columns = next(empty).schema
    schema = ", ".join(f"{column.name} {TYPES[str(column.type)]}" for column in columns)
    empty.close()

    # A local master does not repeat tasks.
    repeats = not context.master.startswith("local[") and context.master != "local"
    attempts = int(spark.conf.get("spark.task.maxFailures", "4")) if repeats else 1
    task = collect(places, options, arguments.inventory, as_text(spark, configuration), attempts)
    collected = spark.range(0, len(places), 1, len(places)).mapInArrow(task, schema)
    merged = collected.repartition("bucket").mapInArrow(merge, schema)
    merged.write.option("compression", "zstd").parquet(arguments.to)

    stored = spark.read.parquet(arguments.to).where("bucket = 64")
    inputs = stored.select("name", "frames_read", "error").collect()
    inputs.sort(key=lambda row: row.name)
    failed = [row for row in inputs if row.error]
    for row in failed:
        print(f"error: {printable(row.name)}: {printable(row.error)}", file=sys.stderr)
    frames = sum(row.frames_read for row in inputs)
    print(f"{arguments.to}: captures: {len(inputs)}, with errors: {len(failed)}, frames: {frames}")
    spark.stop()
    sys.exit(3 if failed and arguments.strict else 0)


if __name__ == "__main__":
    main()

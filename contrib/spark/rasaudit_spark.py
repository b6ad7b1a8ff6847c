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
            raise RuntimeError(f"{shlex.join(command)}: status {status}, {failure}\n{text}")


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


def collect(names, options, inventory, configuration, attempts):
    """Returns the function that turns the numbers of captures into rows. A capture that cannot be
    copied at the last of several attempts becomes a row with the error."""

    def task(batches):
        more = ["--inventory", SparkFiles.get(os.path.basename(inventory))] if inventory else []
        for number in itertools.chain.from_iterable(batch["id"].to_pylist() for batch in batches):
            name = names[number]
            with tempfile.TemporaryDirectory() as folder:
                # A capture on a local path is read where it is.
                path, failure = name, []
                if not name.startswith("/"):
                    try:
                        path = fetch(name, folder, configuration)
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


def find(spark, arguments):
    """Returns the names and sizes of the files that the arguments name, the largest first."""
    configuration = spark.sparkContext._jsc.hadoopConfiguration()
    found = {}
    for argument in arguments:
        path = spark._jvm.org.apache.hadoop.fs.Path(argument)
        system = path.getFileSystem(configuration)
        matches = system.globStatus(path)
        if not matches:
            sys.exit(f"error: {argument}: no such file or folder")
        for match in matches:
            files = system.listFiles(match.getPath(), True)
            while files.hasNext():
                file = files.next()
                uri = file.getPath().toUri()
                is_local = uri.getScheme() == "file"
                found[uri.getPath() if is_local else file.getPath().toString()] = file.getLen()
    if not found:
        sys.exit("error: the folders contain no files")
    return sorted(found.items(), key=lambda file: (-file[1], file[0])), configuration


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
    names = [name for name, _ in files]
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
    task = collect(names, options, arguments.inventory, as_text(spark, configuration), attempts)
    collected = spark.range(0, len(names), 1, len(names)).mapInArrow(task, schema)
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

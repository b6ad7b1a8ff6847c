"""Writes the files of a store again with pyarrow.

The arguments are the folder of the store, the new folder, and the name of the compression.
"""

import pathlib
import sys

import pyarrow.parquet

store, new, compression = sys.argv[1:]
pathlib.Path(new).mkdir()
for file in pathlib.Path(store).glob("*.parquet"):
    table = pyarrow.parquet.read_table(file)
    pyarrow.parquet.write_table(table, pathlib.Path(new) / file.name, compression=compression)

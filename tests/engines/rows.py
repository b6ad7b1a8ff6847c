"""Reads a store with pyarrow and DuckDB, and prints what they find as JSON.

The argument is the folder of the store.
"""

import json
import pathlib
import sys

import duckdb
import pyarrow.parquet

store = pathlib.Path(sys.argv[1])
files = sorted(store.glob("*.parquet"))
tables = [pyarrow.parquet.read_table(file) for file in files]
schemas = {str([(column.name, str(column.type)) for column in table.schema]) for table in tables}
assert len(schemas) == 1, schemas

rows = duckdb.read_parquet(str(store / "*.parquet"))
kinds = "SELECT kind, count(*), sum(parts), sum(accounted), sum(frames_read) FROM rows GROUP BY kind"
counts = {kind: [int(n) for n in numbers] for kind, *numbers in duckdb.sql(kinds).fetchall()}

found = {
    "pyarrow": [[column.name, str(column.type)] for column in tables[0].schema],
    "duckdb": [[name, str(kind)] for name, kind in zip(rows.columns, rows.types)],
    "rows": {"pyarrow": sum(table.num_rows for table in tables), "duckdb": len(rows)},
    # By kind: the rows, their parts, the frames that they account for, and the frames that were read.
    "counts": counts,
}
print(json.dumps(found))

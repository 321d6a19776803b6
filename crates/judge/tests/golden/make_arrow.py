"""Makes rows.arrow and rows.json: an Arrow stream as Hugging Face's `datasets` writes it (`pip install pyarrow`), of every kind of
column that is read, in two batches, and its rows. Run it in this folder: `python3 make_arrow.py`.
"""

import json
from pathlib import Path

import pyarrow as pa

SCHEMA = pa.schema(
    {
        "text": pa.string(),
        "long": pa.large_string(),
        "small": pa.int8(),
        "number": pa.int64(),
        "unsigned": pa.uint32(),
        "half": pa.float32(),
        "whole": pa.float64(),
        "flag": pa.bool_(),
        "nothing": pa.null(),
        "list": pa.list_(pa.string()),
        "nested": pa.struct({"choices": pa.list_(pa.string()), "labels": pa.large_list(pa.int32())}),
        "objects": pa.list_(pa.struct({"a": pa.int16()})),
    }
)
ROWS = [
    {
        "text": "one",
        "long": "é",
        "small": -3,
        "number": 1 << 40,
        "unsigned": 4_000_000_000,
        "half": 0.5,
        "whole": -0.25,
        "flag": True,
        "nothing": None,
        "list": ["a", "", None],
        "nested": {"choices": ["x", "y"], "labels": [1, 0]},
        "objects": [{"a": 1}, {"a": -1}],
    },
    {name: None for name in SCHEMA.names},
    {
        "text": "",
        "long": "two",
        "small": 127,
        "number": -1,
        "unsigned": 0,
        "half": 2.0,
        "whole": 3.5,
        "flag": False,
        "nothing": None,
        "list": [],
        "nested": {"choices": [], "labels": None},
        "objects": [],
    },
]


def main():
    here = Path(__file__).parent
    with pa.OSFile(str(here / "rows.arrow"), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for rows in (ROWS[:2], ROWS[2:]):
            stream.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))
    (here / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False, indent=1) + "\n")


main()

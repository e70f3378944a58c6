"""Files of records: JSON lines for any program, and Parquet for data frames and the Hub."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from prunecast.errors import RegistryError
from prunecast.registry.sharing.records import BATCH, PROVENANCE_COLUMNS, RUN_COLUMNS, Record
from prunecast.registry.sqlite.defences import MOST_CELL_BYTES

SUFFIXES = (".jsonl", ".parquet")


def write_records(records: Iterable[Record], path: Path) -> int:
    """Write records to a ``.jsonl`` or ``.parquet`` file, by its suffix; returns their number.

    Raises:
        RegistryError: another suffix, or the file cannot be written.
    """
    _check_suffix(path)
    try:
        return _write_lines(records, path) if path.suffix == ".jsonl" else _write_parquet(records, path)
    except OSError as error:
        raise RegistryError(f"{path}: cannot be written ({error.strerror}); name another file") from error


def read_records(path: Path) -> Iterator[Record]:
    """Records of a ``.jsonl`` or ``.parquet`` file.

    Raises:
        RegistryError: another suffix, no such file, a line that is no JSON object, or a file that is no Parquet file.
    """
    _check_suffix(path)
    if not path.is_file():
        raise RegistryError(f"{path}: there is no such file; name one that prunecast registry export wrote")
    yield from _read_lines(path) if path.suffix == ".jsonl" else _read_parquet(path)


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise RegistryError(f"{path}: has no known suffix; name a file that ends in {' or '.join(SUFFIXES)}")


def _write_lines(records: Iterable[Record], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def _read_lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(MOST_CELL_BYTES), b"")
        for number, line in enumerate(lines, start=1):
            if len(line) == MOST_CELL_BYTES:
                raise RegistryError(f"{path}:{number}: is longer than any record; name a file that export wrote")
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise RegistryError(f"{path}:{number}: is no JSON ({error.msg})") from error
            except UnicodeDecodeError as error:
                raise RegistryError(f"{path}:{number}: is no UTF-8 text; name a file that export wrote") from error
            # Python refuses deep nesting, and integers of thousands of digits.
            except (RecursionError, ValueError) as error:
                raise RegistryError(f"{path}:{number}: is no record ({error})") from error
            if not isinstance(record, dict):
                raise RegistryError(f"{path}:{number}: is no JSON object")
            yield record


def _schema() -> Any:
    """Arrow schema with a column for every field that a record of any type has."""
    import pyarrow as pa

    text = {name: pa.string() for name in (*RUN_COLUMNS, *PROVENANCE_COLUMNS)}
    plugin = {"": pa.string(), "_version": pa.int64(), "_options_json": pa.string()}
    plugin |= {"_data_hash": pa.string(), "_owner": pa.string(), "_code_hash": pa.string()}
    plugins = {f"{kind}{name}": of for kind in ("pruner", "evaluator") for name, of in plugin.items()}
    metric = {"name": pa.string(), "direction": pa.string(), "unit": pa.string(), "scale": pa.string()}
    metric |= {"value": pa.float64(), "standard_error": pa.float64(), "count": pa.int64()}
    own = {name: pa.string() for name in ("type", "model_key", "model", "shape_json", "dtype", "architecture")}
    measured = {"parameters": pa.int64(), "metrics": pa.list_(pa.struct(metric)), "seconds": pa.float64()}
    measured |= {"version": pa.int64()}
    origin = {name: pa.string() for name in ("measured_utc", "run_key", "uses_json", "changes_json")}
    return pa.schema({**own, **plugins, **measured, **origin, **text})


def _write_parquet(records: Iterable[Record], path: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    count, stream, schema = 0, iter(records), _schema()
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(stream, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise RegistryError(f"{path}: is no Parquet file, or a damaged one") from error

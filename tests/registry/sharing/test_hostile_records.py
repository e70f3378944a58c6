"""Records that anyone may have written: a wrong one is one line, and nothing of it is taken in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from registry_samples import architecture, measurements, setting, start

from prunecast.errors import RegistryError
from prunecast.registry.sharing.files import read_records, write_records
from prunecast.registry.sharing.publish import publish, pull
from prunecast.registry.sharing.records import absorb, records_of
from prunecast.registry.store import Registry

Record = dict[str, Any]


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Records of a run, an evaluation and its local sensitivities."""
    with Registry.open(tmp_path / "theirs.db") as registry:
        run = start(registry)
        registry.record(run, "pairs", setting(), architecture(1), measurements(31.5), 1.0, "cpu")
        registry.record_steps(run, setting(), architecture(1), 1, {(0, architecture(2).layers[0]): (0.1, 0.2)}, 2.0)
        return list(records_of(registry))


def shape(**changes: object) -> Callable[[Record], object]:
    return lambda record: json.dumps({**json.loads(record["shape_json"]), **changes})


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (0, "key", {"nested": 1}),
        (0, "status", "done"),
        (0, "spec_json", "{"),
        (0, "name", None),
        (0, "name", "half \ud83d"),
        (0, "result_json", ["a", "list"]),
        (1, "architecture", "0+1*99999999999999"),
        (1, "architecture", "1x1+" + "9" * 5000),
        (1, "architecture", 7),
        (1, "architecture", f"{2**70}x1+1 4x2+0*2"),
        (1, "metrics", []),
        (1, "metrics", {"name": "ppl"}),
        (1, "metrics", [{"name": ["ppl"], "direction": 1, "unit": 1, "scale": 1, "value": 1, "standard_error": 0}]),
        (1, "seconds", "soon"),
        (1, "seconds", float("nan")),
        (1, "measured_utc", "yesterday"),
        (1, "measured_utc", None),
        (1, "uses_json", "7"),
        (1, "uses_json", '[["a"]]'),
        (1, "uses_json", "[" * 100_000),
        (1, "shape_json", "[]"),
        (1, "shape_json", shape(hidden_size="wide")),
        (1, "shape_json", shape(fixed=-1)),
        (1, "shape_json", shape(fixed=2**63)),
        (1, "shape_json", shape(family=3)),
        (1, "shape_json", shape(surprise=1)),
        (1, "shape_json", shape(mlp={"base": 64, "unit": 10**30})),
        (1, "pruner", {"name": "taylor"}),
        (1, "pruner_version", 2**70),
        (1, "evaluator_options_json", "[" * 100_000),
        (1, "dtype", ["float32"]),
        (1, "device", {"cpu": 1}),
        (1, "torch", None),
        (1, "type", ["evaluation"]),
        (2, "changes_json", "7"),
        (2, "changes_json", '[["a", 1, 1, 1, 1, 1]]'),
        (2, "version", "new"),
        (2, "measured_utc", "0000"),
        (2, "seconds", -1),
    ],
)
def test_a_wrong_record_is_one_line_and_is_not_taken_in(
    tmp_path: Path, records: list[Record], place: int, name: str, value: object
) -> None:
    record = records[place]
    record[name] = value(record) if callable(value) else value
    with Registry.open(tmp_path / "ours.db") as ours:
        with pytest.raises(RegistryError) as refused:
            absorb(ours, [record])
        assert "\n" not in str(refused.value)
        assert list(records_of(ours)) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "is no record"),
        ('{"type": "run", "key": ' + "9" * 5000 + "}", "is no record"),
        ('{"type": "run", "key": "' + "x" * (64 * 2**20) + '"}', "is longer than any record"),
    ],
)
def test_a_hostile_line_is_refused_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"type": "steps"}}\n{line}\n')
    with pytest.raises(RegistryError, match=f"a.jsonl:2: {message}"):
        list(read_records(tmp_path / "a.jsonl"))


def test_a_published_folder_with_hostile_names_shows_them_as_text(tmp_path: Path, records: list[Record]) -> None:
    for record in records[1:]:
        record["model"] = "evil\x1b[2J](javascript:x) <script>alert(1)</script>\n---\n# owned"
    with Registry.open(tmp_path / "ours.db") as ours:
        absorb(ours, records)
        publish(ours, f"{tmp_path}/shared")
        card = (tmp_path / "shared" / "README.md").read_text()
        assert "\x1b" not in card
        assert "<script>" not in card
        assert card.count("\n---\n") == 1
        assert "\n# owned" not in card
        assert r"evil\\x1b\[2J\](javascript:x) &lt;script&gt;" in card
    with Registry.open(tmp_path / "again.db") as again:
        assert pull(again, f"{tmp_path}/shared").evaluations == 1
        assert [record["model"] for record in records_of(again) if record["type"] == "evaluation"] == [
            records[1]["model"]
        ]


@pytest.mark.parametrize("end", [4, 400])
def test_a_damaged_parquet_file_is_one_line(tmp_path: Path, records: list[Record], end: int) -> None:
    path = tmp_path / "a.parquet"
    write_records(iter(records), path)
    path.write_bytes(path.read_bytes()[:-end])
    with pytest.raises(RegistryError, match=r"a.parquet: is no Parquet file, or a damaged one"):
        list(read_records(path))

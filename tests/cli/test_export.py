"""``prunecast export``: models of a finished run, exported again without measuring."""

import json

from workplace import EVALUATIONS, Outcome, Workplace

from prunecast.architecture.architecture import Architecture


def test_export_repeats_the_best_model_exactly_and_replaces_it_by_another(
    finished: tuple[Workplace, Outcome], continued: Workplace
) -> None:
    workplace, outcome = finished
    folder = continued.folder / "again"
    report = continued.prunecast("export", "tiny", "again", "--json").json
    assert report["parameters"] == outcome.json["best"]["parameters"]
    for name in ("model.safetensors", "architecture.json", "modeling_prunecast.py", "tokenizer.json"):
        assert (folder / name).read_bytes() == (workplace.folder / "out/tiny" / name).read_bytes()
    assert "| best |" in (folder / "README.md").read_text()

    text = "4x2+24*2 0+12 2x2+0"
    refused = continued.prunecast("export", "1", "again", "--architecture", text)
    assert (refused.code, refused.stderr.count("\n")) == (1, 1)
    assert "again holds the export of run 'tiny', of another architecture" in refused.stderr
    other = continued.prunecast("export", "1", "again", "--architecture", text, "--overwrite")
    assert (other.code, other.stdout.count("\n")) == (0, 1), other.stderr
    written = json.loads((folder / "architecture.json").read_text())
    assert written == [list(layer) for layer in Architecture.parse(text).layers]
    assert "| best |" not in (folder / "README.md").read_text()  # the measured numbers belong to another model
    assert continued.sql("SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM evaluations)") == [(1, EVALUATIONS)]


def test_an_invalid_architecture_is_a_one_line_error(continued: Workplace) -> None:
    for text, part in (
        ("4y2+24*4", "the architecture: "),
        ("", "the architecture: "),
        ("4x2+24*5", "the architecture has 5 layers, the model 4"),
        ("4x2+25*4", "the model has (4, 2, 24)"),
    ):
        outcome = continued.prunecast("export", "1", "other", "--architecture", text)
        assert (outcome.code, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
        assert part in outcome.stderr
    assert not (continued.folder / "other").exists()

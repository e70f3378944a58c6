"""Examples of every command, which end its ``--help``."""

from collections.abc import Iterator, Mapping

import click

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "": ("prunecast run quickstart", "prunecast init path/to/model -o mine.yaml"),
    "doctor": ("prunecast doctor", "prunecast doctor path/to/model"),
    "export": (
        "prunecast export mine out/again",
        "prunecast export mine out/mine-gguf --target gguf --dtype q8_0",
        "prunecast export mine out/hub --push owner/name --dry-run",
    ),
    "families": ("prunecast families list", "prunecast families check path/to/model"),
    "families check": (
        "prunecast families check path/to/model",
        "prunecast families check llama",
        "prunecast families check twin.yaml",
    ),
    "families list": ("prunecast families list --prove",),
    "init": (
        "prunecast init path/to/model -o mine.yaml",
        "prunecast init smollm2-135m --minutes 20 --budget 0.7",
        "prunecast init path/to/model --calibration mine.txt --evaluate mine.txt",
    ),
    "plugins": ("prunecast plugins list", "prunecast plugins show layerwise"),
    "plugins check": ("prunecast plugins check prunecast --kind predictor --name gp",),
    "plugins list": ("prunecast plugins list --kind predictor", "prunecast plugins list --all"),
    "plugins new": ("prunecast plugins new smoother --kind predictor",),
    "plugins reference": ("prunecast plugins reference > plugins.md",),
    "plugins schema": ("prunecast plugins schema > family.schema.json",),
    "plugins show": ("prunecast plugins show gp", "prunecast plugins show llama --kind family"),
    "predict": (
        "prunecast predict '3x3+1536*3 3x3+922*25 3x3+1536*2' --pruner taylor",
        "prunecast predict smollm2",
    ),
    "predictors": ("prunecast predictors card --predictor gp --metric wikitext2.validation.ppl",),
    "predictors card": (
        "prunecast predictors card --predictor gbdt --predictor gp \\\n  --metric wikitext2.validation.ppl",
    ),
    "registry": (
        "prunecast registry best wikitext2.validation.ppl --budget parameters=0.8",
        "prunecast registry stats",
    ),
    "registry best": (
        "prunecast registry best wikitext2.validation.ppl --budget parameters=0.8",
        "prunecast registry best ptb.test.ppl --run 83 --limit 3",
    ),
    "registry delete": ("prunecast registry delete 12",),
    "registry export": ("prunecast registry export all.jsonl", "prunecast registry export all.parquet"),
    "registry gc": ("prunecast registry gc",),
    "registry import": (
        "prunecast registry import all.jsonl",
        "prunecast registry import layers.txt --format evopress --model smollm2-135m",
    ),
    "registry merge": ("prunecast registry merge theirs.db",),
    "registry metrics": ("prunecast registry metrics", "prunecast registry metrics --model smollm2-135m"),
    "registry models": ("prunecast registry models",),
    "registry nearest": ("prunecast registry nearest '3x3+1536*3 3x3+922*25 3x3+1536*2' --limit 3",),
    "registry pareto": (
        "prunecast registry pareto wikitext2.validation.ppl parameters",
        "prunecast registry pareto wikitext2.validation.ppl decode_ms --threads 1",
    ),
    "registry publish": ("prunecast registry publish ./shared", "prunecast registry publish owner/name --private"),
    "registry pull": ("prunecast registry pull ./shared", "prunecast registry pull owner/name --revision main"),
    "registry query": ("prunecast registry query --metric ptb.test.ppl --where 'kept < 0.8' --sort ptb.test.ppl",),
    "registry show": ("prunecast registry show '3x3+1536*3 3x3+922*25 3x3+1536*2'",),
    "registry sql": ("prunecast registry sql 'SELECT name, status FROM runs' --csv",),
    "registry stats": ("prunecast registry stats",),
    "registry transfer": (
        "prunecast registry transfer smollm2-135m path/to/model \\\n  --metric wikitext2.validation.ppl",
    ),
    "registry vacuum": ("prunecast registry vacuum",),
    "registry verify": ("prunecast registry verify", "prunecast registry verify --remeasure 5"),
    "report": ("prunecast report mine --out report", "prunecast report 77 --as-recorded"),
    "run": (
        "prunecast run quickstart",
        "prunecast run mine.yaml --dry-run",
        "prunecast run mine.yaml --set name=mine-70 --set budget.parameters=0.7",
    ),
    "runs": ("prunecast runs list", "prunecast runs show mine"),
    "runs compare": ("prunecast runs compare 83 84",),
    "runs list": ("prunecast runs list --limit 5",),
    "runs show": ("prunecast runs show mine", "prunecast runs show 83 --json"),
    "spec": ("prunecast spec validate mine.yaml",),
    "spec schema": ("prunecast spec schema > prunecast.schema.json",),
    "spec validate": ("prunecast spec validate mine.yaml --set budget.parameters=0.7",),
}
"""Command lines by the path of their command; those of the group itself have none."""


def add_examples(group: click.Group) -> None:
    """End the help of every command of the group with its examples, where there are any."""
    for path, command in commands_of(group):
        if examples := EXAMPLES.get(" ".join(path)):
            indented = "\n".join(f"  {line}" for each in examples for line in each.splitlines())
            command.epilog = f"\b\n{'Examples' if len(examples) > 1 else 'Example'}:\n{indented}"


def commands_of(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it, each with its path, in the order of their names."""
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from commands_of(command.commands[name], (*path, name))

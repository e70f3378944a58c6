"""The Python API: what the commands ``run``, ``run --dry-run``, ``predict``, ``spec validate``, ``registry best`` and
``registry pareto`` do, as functions.

Errors are the one-line errors of :mod:`prunecast.errors`; nothing calls ``sys.exit``. An interrupted run can be
continued by the same call.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecast.architecture.architecture import Architecture
from prunecast.errors import RegistryError, SpecError, resource_error
from prunecast.plugins.host import PluginHost
from prunecast.progress import Progress
from prunecast.registry import Registry, registry_path
from prunecast.spec.given import check_overrides, check_source, is_text, kind_of, without_lines, yaml_of
from prunecast.spec.load import load_spec as load_file
from prunecast.spec.load import packaged_specs, parse_spec
from prunecast.spec.model import Spec

if TYPE_CHECKING:
    import pandas

    from prunecast.predict.from_registry import Predicted
    from prunecast.registry.queries.selection import Filter
    from prunecast.run.plan import Plan
    from prunecast.run.result import RunResult

SpecLike = Spec | str | Path | Mapping[str, Any]
"""A spec, or what :func:`load_spec` takes."""

DEFAULT_REGISTRY = "registry.db"


def load_spec(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Spec:
    """Load and validate a spec, the options of its plugins included.

    Args:
        source: path of a YAML file, name of a packaged spec such as ``quickstart``, YAML or JSON text (a string of
            several lines, or one in braces), or a mapping like that of a YAML file.
        overrides: ``KEY.PATH=VALUE`` to apply before validation, e.g. ``["budget.parameters=0.7"]``.

    Raises:
        SpecError: with every problem, each with its place: file, line and column, of a mapping the path of its keys.
    """
    check_overrides(overrides)
    host = PluginHost.discover()
    if isinstance(source, Mapping):
        text = yaml_of(source)
        with without_lines():
            return parse_spec(text, host, overrides)
    check_source(source)
    if isinstance(source, str) and is_text(source):
        return parse_spec(source, host, overrides)
    return load_file(source, host, overrides)


def run(
    spec: SpecLike,
    registry: str | Path = DEFAULT_REGISTRY,
    progress: bool = True,
    overwrite: bool = False,
    executor: str | None = None,
) -> "RunResult":
    """Run a spec, or continue it; evaluations that the registry has are not repeated.

    Args:
        spec: the spec: an object of :func:`load_spec`, or what that takes.
        registry: file of the registry; made if it is missing.
        progress: True shows progress on stderr.
        overwrite: True allows the export to replace one of another run, spec or architecture, and an edited one.
        executor: name of the executor; that of the spec, if it names one, or ``local`` if not given.

    Raises:
        PrunecastError: something is missing, does not fit or went wrong. What was measured is in the registry.
        KeyboardInterrupt: the run was interrupted; the same call continues it.
    """
    from prunecast.run.runner import run as run_spec

    if not isinstance(progress, bool):
        raise SpecError([f"progress: must be True or False, got {kind_of(progress)}"])
    loaded = _loaded(spec)
    with _one_line_errors(), Registry.open(registry) as opened:
        return run_spec(loaded, loaded.host, opened, Progress(quiet=not progress), overwrite, executor)


def plan(spec: SpecLike, registry: str | Path = DEFAULT_REGISTRY, overwrite: bool = False) -> "Plan":
    """Plan a run: evaluations of each stage, those in the registry already, estimated time. Nothing is measured.

    Args:
        spec: as in :func:`run`.
        registry: file of the registry, which may be missing; it is only read.
        overwrite: as in :func:`run`.

    Raises:
        PrunecastError: what the run would raise before it measures.
    """
    from prunecast.measure.setup import Setup
    from prunecast.registry.unchanged import unchanged
    from prunecast.run.plan import plan as plan_run

    loaded = _loaded(spec)
    with _one_line_errors(), unchanged(registry_path(registry)) as opened:
        return plan_run(Setup(loaded, loaded.host), opened, overwrite)


def predict(
    target: SpecLike | Architecture,
    registry: str | Path = DEFAULT_REGISTRY,
    *,
    model: str | None = None,
    metrics: Sequence[str] = (),
    predictor: str | None = None,
    pruner: str | None = None,
    seed: int | None = None,
) -> "list[Predicted]":
    """Predict from the registry alone: the metrics of an architecture, or the result of a spec. No model is loaded.

    Args:
        target: an architecture or its text, or a spec as in :func:`run`. All arguments but the registry are for an
            architecture; a spec names its own.
        registry: file of the registry.
        model: source or fingerprint of the model; not needed if one model of the registry has that many layers.
        metrics: metrics to predict; by default all with enough pairs.
        predictor: name of a predictor plugin, with its default options; gbdt by default.
        pruner: only pairs of the pruner with this name or content key.
        seed: seed of the predictor; 0 by default.

    Raises:
        SpecError: the spec is not valid, or comes with an argument that is for an architecture.
        RegistryError: there is no registry, no such model or metric, or too few pairs.
    """
    from prunecast.predict.from_registry import predict_architecture
    from prunecast.registry.queries.series import model_of_depth
    from prunecast.run.forecast import predict_spec, refuse_options

    target = _architecture(target) or target
    if not isinstance(target, Architecture):
        given = {"model": model, "metrics": metrics or None, "predictor": predictor, "pruner": pruner, "seed": seed}
        refuse_options([name for name, value in given.items() if value is not None])
    with _one_line_errors(), Registry.open(registry, readonly=True) as opened:
        if isinstance(target, Architecture):
            model = model or model_of_depth(opened, len(target.layers))
            host = PluginHost.discover()
            named = "gbdt" if predictor is None else predictor
            found, _ = predict_architecture(opened, host, target, model, metrics, named, pruner, seed or 0)
        else:
            loaded = _loaded(target)
            found, _ = predict_spec(opened, loaded.host, loaded)
    return found


def best(
    metric: str,
    registry: str | Path = DEFAULT_REGISTRY,
    *,
    model: str | None = None,
    budget: Mapping[str, float | str] | None = None,
    run: int | str | None = None,
    where: str | None = None,
    limit: int | None = 10,
) -> "pandas.DataFrame":
    """Measured architectures, the best by a metric first; ties by size.

    Args:
        metric: name of the metric, such as ``wikitext2.validation.ppl``.
        registry: file of the registry.
        model: source of the model, or the first digits of its fingerprint; all models by default.
        budget: ranges by quantity: an upper limit such as ``{"parameters": 0.8}``, or a text such as ``"0.75..0.85"``;
            up to 1, a fraction of the dense model's.
        run: id, name or key of a run that used the architectures.
        where: an SQL condition over the columns of the result.
        limit: largest number of rows; None for all.

    Returns:
        One row for each architecture; its columns are those of :func:`prunecast.registry.queries.selection.query`,
        among them the metric, ``METRIC.evaluator`` (numbers of several evaluators are not comparable), ``parameters``,
        ``kept``, ``run`` and ``key`` to export by, and ``architecture``.

    Raises:
        RegistryError: there is no registry, no such model, metric, run or column, or a limit or condition is none.
    """
    from prunecast.registry.queries.selection import best as best_of

    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise RegistryError(f"limit: must be a whole number from 1, or None for all rows, got {limit!r}")
    with _one_line_errors(), Registry.open(registry, readonly=True) as opened:
        return _frame(best_of(opened, metric, _filter(model, budget, run, where), limit))


def pareto(
    criteria: Sequence[str],
    registry: str | Path = DEFAULT_REGISTRY,
    *,
    model: str | None = None,
    budget: Mapping[str, float | str] | None = None,
    run: int | str | None = None,
    where: str | None = None,
) -> "pandas.DataFrame":
    """Measured architectures that no other one dominates: that is as good in every criterion and better in one.

    Args:
        criteria: two or three names of metrics and quantities, at least one of them a metric, such as
            ``["wikitext2.validation.ppl", "parameters"]``.
        registry, model, budget, run, where: as in :func:`best`.

    Returns:
        One row for each architecture, as of :func:`best`, by the first metric, best first.

    Raises:
        RegistryError: as of :func:`best`, or the criteria are not two or three different ones with a metric.
    """
    from prunecast.registry.queries.pareto import pareto as front_of

    if isinstance(criteria, str):
        raise RegistryError(f"criteria: must be a list of names, got the text {criteria!r}")
    with _one_line_errors(), Registry.open(registry, readonly=True) as opened:
        return _frame(front_of(opened, criteria, _filter(model, budget, run, where)).rows)


def _frame(rows: Sequence[Mapping[str, Any]]) -> "pandas.DataFrame":
    """Rows as a data frame; the number of a run stays whole where others have none."""
    import pandas

    frame = pandas.DataFrame(rows)
    return frame.astype({"run": "Int64"}) if rows else frame


def _filter(
    model: str | None, budget: Mapping[str, float | str] | None, run: int | str | None, where: str | None
) -> "Filter":
    from prunecast.registry.queries.ranges import parse_ranges
    from prunecast.registry.queries.selection import Filter

    limits = {} if budget is None else budget
    if not isinstance(limits, Mapping):
        raise RegistryError(f"budget: must be a mapping such as {{'parameters': 0.8}}, got {kind_of(budget)}")
    ranges = parse_ranges({name: str(limit) for name, limit in limits.items()})
    return Filter(model=model, budget=ranges, run=run, where=where)


def _architecture(target: object) -> Architecture | None:
    """Architecture of a text that names no spec, or None."""
    if not isinstance(target, str) or target in packaged_specs() or Path(target).is_file():
        return None
    try:
        return Architecture.parse(target)
    except ValueError:
        return None


def _loaded(spec: SpecLike) -> Spec:
    return spec if isinstance(spec, Spec) else load_spec(spec)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Raise a full disk, or a lack of memory, as a ResourceError."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        exhausted = resource_error(error)
        if exhausted is None:
            raise
        raise exhausted from error

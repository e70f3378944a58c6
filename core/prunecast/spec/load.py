"""Loading of spec files: the result is a valid spec, or an error with all problems at once."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from prunecast.errors import SpecError
from prunecast.plugins.host import PluginHost
from prunecast.spec.document import Document, KeyPath, Place, Problem, dotted
from prunecast.spec.explain import problem_of
from prunecast.spec.model import Spec, SpecContext, SpecSource

MOST_BYTES = 2**20
"""Largest size of a spec file."""


def load_spec(source: str | Path, host: PluginHost, overrides: Sequence[str] = ()) -> Spec:
    """Read and validate a spec file, options of its plugins included.

    Args:
        source: path of a YAML file, or the name of a packaged spec such as ``quickstart``.
        host: the available plugins. Those that the spec names are imported, none is instantiated.
        overrides: ``KEY.PATH=VALUE`` to apply before validation, in order; see
            :meth:`prunecast.spec.document.Document.override`.

    Raises:
        SpecError: with every problem of file and overrides, in the order of their places.
    """
    path = find_spec(source)
    return parse_spec(_read(path), host, overrides, path)


def parse_spec(text: str, host: PluginHost, overrides: Sequence[str] = (), path: Path | None = None) -> Spec:
    """Validate the text of a spec. ``path`` is its file; everything else is as in :func:`load_spec`."""
    document = Document.parse(text, str(path or "spec"))
    for override in overrides:
        document = document.override(override)
    data = {"name": path.stem, **document.data} if path else document.data
    packaged = path is not None and path.resolve() in {file.resolve() for file in packaged_specs().values()}
    context = SpecContext(host, SpecSource(path, text, tuple(overrides), document.typed, packaged))
    try:
        spec = Spec.model_validate(data, context=context)
    except ValidationError as error:
        invalid = [problem_of(details, document, host) for details in error.errors(include_url=False)]
        raise _error_with_all(document, invalid, overrides) from error
    if document.problems:
        raise _error_with_all(document, [], overrides)
    return spec


def error_at(spec: Spec, path: KeyPath, message: str) -> SpecError:
    """Error about a value of a valid spec that does not fit the model, with the place where the spec has it."""
    source = spec.source
    if not source.text:  # a spec of the registry
        return SpecError([f"{dotted(path)}: {message}"])
    document = Document.parse(source.text, str(source.path or "spec"))
    for override in source.overrides:
        document = document.override(override)
    return SpecError([str(Problem(document.find(path)[-1], path, message))])


def packaged_specs() -> dict[str, Path]:
    """Files of the specs that come with prunecast, by name, sorted."""
    package = Path(str(files("prunecast")))
    installed = package / "specs"
    # In an editable checkout they are beside the source root.
    folder = installed if installed.is_dir() else package.parents[1] / "specs"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"), key=lambda file: file.stem)}


def find_spec(source: str | Path) -> Path:
    """File of ``source``, a path or the name of a packaged spec. Raises SpecError if there is none."""
    path = Path(source)
    packaged = packaged_specs()
    if not path.is_file() and str(source) in packaged:
        return packaged[str(source)]
    if path.exists():
        return path
    near = get_close_matches(path.stem, packaged, n=1)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    message = f"no such file{guess}: write a path, or the name of a packaged spec: {', '.join(packaged) or 'none'}"
    raise SpecError([str(Problem(Place(str(source), 1, 1), (), message))])


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)  # a device may have no end
    except OSError as error:
        message = f"cannot be read: {error.strerror}; write the path of a readable YAML file"
        raise SpecError([str(Problem(Place(str(path), 1, 1), (), message))]) from error
    if len(raw) > MOST_BYTES:
        message = f"larger than {MOST_BYTES:,} bytes: name the file of a spec"
        raise SpecError([str(Problem(Place(str(path), 1, 1), (), message))])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        place = Place(str(path), before.count("\n") + 1, len(before) - before.rfind("\n"))
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise SpecError([str(Problem(place, (), message))]) from error


def _error_with_all(document: Document, invalid: Iterable[Problem], overrides: Sequence[str]) -> SpecError:
    """Refused spellings and failed validations as one error, in the order of the file, then of the overrides.

    A value with a refused spelling may also fail validation, as what YAML reads it as: only the refusal is reported.
    """
    refused = {problem.path for problem in document.problems}
    independent = [
        problem
        for problem in invalid
        if not any(problem.path[:length] in refused for length in range(1, len(problem.path) + 1))
    ]
    sources = [document.source, *(f"--set {override}" for override in overrides)]
    problems = sorted(
        {*document.problems, *independent},
        key=lambda problem: (sources.index(problem.place.source), problem.place, str(problem)),
    )
    return SpecError(_alternatives_joined(problems))


def _alternatives_joined(problems: Iterable[Problem]) -> list[str]:
    """Text of the problems; a value that fits no member of a union is one problem, not one per member."""
    messages: dict[tuple[Place, KeyPath], list[str]] = {}
    for problem in problems:
        messages.setdefault((problem.place, problem.path), []).append(problem.message)
    return [str(Problem(place, path, "; or ".join(several))) for (place, path), several in messages.items()]

"""Loading of spec files: the result is a valid spec, or an error with all problems at once."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from prunecast.errors import SpecError
from prunecast.plugins.host import PluginHost
from prunecast.spec.explain import known_keys
from prunecast.spec.model import Spec, SpecContext, SpecSource
from prunecast.yaml_files.document import Document, Place, Problem
from prunecast.yaml_files.problems import messages_of, problem_of
from prunecast.yaml_files.reading import read_text


def load_spec(source: str | Path, host: PluginHost, overrides: Sequence[str] = ()) -> Spec:
    """Read and validate a spec file, options of its plugins included.

    Args:
        source: path of a YAML file, or the name of a packaged spec such as ``quickstart``.
        host: the available plugins. Those that the spec names are imported, none is instantiated.
        overrides: ``KEY.PATH=VALUE`` to apply before validation, in order; see
            :meth:`prunecast.yaml_files.document.Document.override`.

    Raises:
        SpecError: with every problem of file and overrides, in the order of their places.
    """
    path = find_spec(source)
    return parse_spec(read_text(path), host, overrides, path)


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
        keys = partial(known_keys, data=document.data, host=host)
        invalid = [problem_of(details, document, keys) for details in error.errors(include_url=False)]
        raise SpecError(messages_of(document, invalid, overrides)) from error
    if document.problems:
        raise SpecError(messages_of(document, [], overrides))
    return spec


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

"""prunecast: structured pruning of causal language models, searched with an accuracy predictor (arXiv 2309.09507).

    import prunecast

    result = prunecast.run("quickstart")           # a spec: path, packaged name, YAML text or dict
    result.table()                                 # dense model, baselines and best architecture, as a data frame
    model = result.load_model()                    # the pruned model, as transformers loads it
    prunecast.best("wikitext2.validation.ppl", budget={"parameters": 0.8})  # what the registry has, as a data frame

The names of this module, of :mod:`prunecast.plugins` (for authors of plugins), :mod:`prunecast.testing` and
:mod:`prunecast.errors` are the public API. A name is loaded when it is first used: importing prunecast loads no torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from prunecast import moved

if TYPE_CHECKING:
    from prunecast.api import best as best
    from prunecast.api import load_spec as load_spec
    from prunecast.api import pareto as pareto
    from prunecast.api import plan as plan
    from prunecast.api import predict as predict
    from prunecast.api import run as run
    from prunecast.architecture.architecture import Architecture as Architecture
    from prunecast.registry.store import Registry as Registry
    from prunecast.run.result import RunResult as RunResult
    from prunecast.spec.model import Spec as Spec

    __version__: str

_HOME = {
    "Architecture": "prunecast.architecture.architecture",
    "Registry": "prunecast.registry.store",
    "RunResult": "prunecast.run.result",
    "Spec": "prunecast.spec.model",
    "best": "prunecast.api",
    "load_spec": "prunecast.api",
    "pareto": "prunecast.api",
    "plan": "prunecast.api",
    "predict": "prunecast.api",
    "run": "prunecast.api",
}
"""Public names by the module that defines them."""

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("prunecast")
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package. ``run`` and ``predict`` stay the functions when the packages of the same names are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
moved.install()

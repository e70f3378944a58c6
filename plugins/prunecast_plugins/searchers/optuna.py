"""Any sampler of Optuna, or of OptunaHub, by name."""

import importlib
import re
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from prunecast_plugins.named_classes import Importable, NamedClassOptions
from prunecast_plugins.searchers.ask_tell import AskTell, AskTellOptions

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SAMPLERS = Importable(
    "an Optuna sampler",
    ("optuna.samplers:BaseSampler",),
    ("optuna", "optuna_integration"),
    home="optuna.samplers",
)

_HUB_PACKAGE = re.compile(r"samplers/[a-z0-9_]+")


class OptunaOptions(AskTellOptions, NamedClassOptions):
    """Options of the optuna searcher; all others are parameters of the sampler."""

    importable: ClassVar[Importable] = SAMPLERS
    naming: ClassVar[str] = "sampler"
    withheld: ClassVar[frozenset[str]] = frozenset({"seed", "constraints_func"})

    sampler: str = Field(
        description="class of optuna.samplers, such as CmaEsSampler, import path of another sampler, or package of "
        "OptunaHub, such as samplers/auto_sampler; its parameters are written beside it, objects among them as "
        "{class: NAME, ...}; its seed follows the seed of the spec"
    )
    revision: str = Field(default="main", description="branch, tag or commit of the OptunaHub registry")
    trust_remote_code: bool = Field(default=False, description="true: allow code from OptunaHub to be loaded and run")

    @property
    def named_class(self) -> type[Any]:
        """The sampler class. Raises ValueError if it does not exist or may not be imported."""
        return self._from_hub() if "/" in self.sampler else super().named_class

    def _from_hub(self) -> type[Any]:
        if not _HUB_PACKAGE.fullmatch(self.sampler):
            raise ValueError(f"{self.sampler!r} is not a sampler package of OptunaHub: write samplers/NAME")
        if not self.trust_remote_code:
            raise ValueError(f"{self.sampler!r} is code from OptunaHub: read it, then set trust_remote_code: true")
        return _hub_sampler(self.sampler, self.revision)


@cache
def _hub_sampler(package: str, revision: str) -> type[Any]:
    """The one sampler class of a package of OptunaHub, downloaded unless it is in OptunaHub's cache."""
    try:
        module = importlib.import_module("optunahub").load_module(package, ref=revision)
    except ModuleNotFoundError as error:
        raise ValueError(f"{package!r} cannot be loaded: {error}; pip install 'prunecast[samplers]'") from error
    except Exception as error:
        raise ValueError(f"{package!r} cannot be loaded: {' '.join(str(error).split())}") from error
    samplers: list[type[Any]] = [s for s in vars(module).values() if SAMPLERS.fits(s, {"optunahub_registry"})]
    if len(samplers) != 1:
        raise ValueError(f"{package!r} has {len(samplers)} samplers, not one")
    return samplers[0]


class Optuna(AskTell[OptunaOptions]):
    """A sampler of Optuna (Akiba et al., KDD 2019) by name, in the loop of :class:`AskTell`."""

    options_model = OptunaOptions

    def sampler(self, seed: int) -> "BaseSampler":
        """The sampler that the options name."""
        sampler: BaseSampler = self.options.instance(seed=seed)
        return sampler

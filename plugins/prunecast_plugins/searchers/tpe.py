"""Optuna's tree-structured Parzen estimator over the prediction."""

from typing import TYPE_CHECKING

from pydantic import Field

from prunecast_plugins.searchers.ask_tell import AskTell, AskTellOptions

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class TPEOptions(AskTellOptions):
    """Options of the tpe searcher; its cost grows with the square of the trials."""

    multivariate: bool = Field(default=False, description="model choices jointly: better proposals, slower")


class TPE(AskTell[TPEOptions]):
    """Bergstra et al., Algorithms for hyper-parameter optimization (2011), section 4, as Optuna implements it."""

    options_model = TPEOptions

    def sampler(self, seed: int) -> "BaseSampler":
        """TPE from the first trial on: the startup sample has taken the place of its own random one."""
        from optuna.samplers import TPESampler

        return TPESampler(seed=seed, multivariate=self.options.multivariate, n_startup_trials=0)

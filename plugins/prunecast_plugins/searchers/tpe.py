"""Optuna's tree-structured Parzen estimator on the predicted score."""

from typing import TYPE_CHECKING

from pydantic import Field

from prunecast_plugins.searchers.ask_tell import AskTell, AskTellOptions

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class TPEOptions(AskTellOptions):
    """Options of the tpe searcher; its time grows with the square of the number of trials."""

    multivariate: bool = Field(
        default=False, description="true: model all choices jointly, which gives better proposals but is slower"
    )


class TPE(AskTell[TPEOptions]):
    """Bergstra et al., Algorithms for hyper-parameter optimization (2011), section 4, as Optuna implements it."""

    options_model = TPEOptions

    def sampler(self, seed: int) -> "BaseSampler":
        """TPE without random trials of its own, which the startup sample replaces."""
        from optuna.samplers import TPESampler

        return TPESampler(seed=seed, multivariate=self.options.multivariate, n_startup_trials=0)

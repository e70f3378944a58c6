"""All that a plugin imports of prunecast, from one place.

A name is loaded when it is first used, so a plugin module stays cheap to import. The contract
(:mod:`prunecast.plugins.hookspecs`) covers these names and :mod:`prunecast.testing`; deeper paths may change in any
release.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunecast.architecture.architecture import Architecture as Architecture
    from prunecast.architecture.architecture import Floats as Floats
    from prunecast.architecture.architecture import Layer as Layer
    from prunecast.architecture.architecture import LayerImportance as LayerImportance
    from prunecast.architecture.architecture import Sizes as Sizes
    from prunecast.architecture.architecture import sizes_of as sizes_of
    from prunecast.architecture.budget import Budget as Budget
    from prunecast.architecture.choices import WHOLE_LAYERS as WHOLE_LAYERS
    from prunecast.architecture.choices import Choice as Choice
    from prunecast.architecture.choices import Component as Component
    from prunecast.architecture.choices import Indices as Indices
    from prunecast.architecture.choices import Value as Value
    from prunecast.architecture.choices import architectures_at as architectures_at
    from prunecast.architecture.choices import ascending as ascending
    from prunecast.architecture.choices import cut_rates as cut_rates
    from prunecast.architecture.choices import indices_of as indices_of
    from prunecast.architecture.choices import shift_level as shift_level
    from prunecast.architecture.choices import sizes_at as sizes_at
    from prunecast.architecture.choices import switch_levels as switch_levels
    from prunecast.architecture.encodings import kept_fractions as kept_fractions
    from prunecast.architecture.encodings import kept_fractions_directions as kept_fractions_directions
    from prunecast.architecture.encodings import relative_depth as relative_depth
    from prunecast.architecture.encodings import smoothed as smoothed
    from prunecast.architecture.encodings import smoothed_directions as smoothed_directions
    from prunecast.architecture.encodings import structured as structured
    from prunecast.architecture.encodings import structured_directions as structured_directions
    from prunecast.architecture.shape import ComponentCost as ComponentCost
    from prunecast.architecture.shape import LayerCost as LayerCost
    from prunecast.architecture.shape import ModelShape as ModelShape
    from prunecast.architecture.shape import Quantity as Quantity
    from prunecast.data import check_embedded as check_embedded
    from prunecast.data import content_hash as content_hash
    from prunecast.data import dataset_label as dataset_label
    from prunecast.data import encode as encode
    from prunecast.data import local_path as local_path
    from prunecast.data import place_of as place_of
    from prunecast.data import read_documents as read_documents
    from prunecast.data import read_rows as read_rows
    from prunecast.data import read_text as read_text
    from prunecast.data import split_label as split_label
    from prunecast.data import tokenize_head as tokenize_head
    from prunecast.data import tokenize_spread as tokenize_spread
    from prunecast.errors import BudgetError as BudgetError
    from prunecast.errors import DataError as DataError
    from prunecast.errors import EngineMissingError as EngineMissingError
    from prunecast.errors import EvaluationError as EvaluationError
    from prunecast.errors import ExecutorError as ExecutorError
    from prunecast.errors import ExportError as ExportError
    from prunecast.errors import ModelError as ModelError
    from prunecast.errors import PluginError as PluginError
    from prunecast.errors import PrunecastError as PrunecastError
    from prunecast.models.families.family import Family as Family
    from prunecast.models.families.head import Head as Head
    from prunecast.models.families.head import head_of as head_of
    from prunecast.models.families.head import logits_of as logits_of
    from prunecast.models.families.layer_parts import LayerParts as LayerParts
    from prunecast.models.families.layer_parts import Projection as Projection
    from prunecast.models.families.layer_parts import layers_of as layers_of
    from prunecast.models.loss import Loss as Loss
    from prunecast.models.projections import ShrinkingInput as ShrinkingInput
    from prunecast.models.projections import ShrinkingOutput as ShrinkingOutput
    from prunecast.models.units import sum_over_units as sum_over_units
    from prunecast.models.units import where_float64_is as where_float64_is
    from prunecast.plugins.bos import Bos as Bos
    from prunecast.plugins.bos import begin_with as begin_with
    from prunecast.plugins.bos import bos_tokens as bos_tokens
    from prunecast.plugins.events import ArchitectureMeasured as ArchitectureMeasured
    from prunecast.plugins.events import Event as Event
    from prunecast.plugins.events import PredictorFitted as PredictorFitted
    from prunecast.plugins.events import RoundFinished as RoundFinished
    from prunecast.plugins.events import RunFinished as RunFinished
    from prunecast.plugins.events import RunStarted as RunStarted
    from prunecast.plugins.executor import Executor as Executor
    from prunecast.plugins.executor import Plain as Plain
    from prunecast.plugins.executor import WorkerEvent as WorkerEvent
    from prunecast.plugins.exporter import Exporter as Exporter
    from prunecast.plugins.exporter import Limits as Limits
    from prunecast.plugins.exporter import Parity as Parity
    from prunecast.plugins.exporter import PrunedModel as PrunedModel
    from prunecast.plugins.exporter import Reference as Reference
    from prunecast.plugins.exporter import Written as Written
    from prunecast.plugins.hookspecs import CONTRACT as CONTRACT
    from prunecast.plugins.hookspecs import Entry as Entry
    from prunecast.plugins.hookspecs import Trial as Trial
    from prunecast.plugins.hookspecs import hookimpl as hookimpl
    from prunecast.plugins.interfaces import ByLayer as ByLayer
    from prunecast.plugins.interfaces import CalibrationOptions as CalibrationOptions
    from prunecast.plugins.interfaces import CalibrationTexts as CalibrationTexts
    from prunecast.plugins.interfaces import CompensationOptions as CompensationOptions
    from prunecast.plugins.interfaces import Evaluator as Evaluator
    from prunecast.plugins.interfaces import Measurement as Measurement
    from prunecast.plugins.interfaces import Metric as Metric
    from prunecast.plugins.interfaces import Plugin as Plugin
    from prunecast.plugins.interfaces import PluginOptions as PluginOptions
    from prunecast.plugins.interfaces import Prediction as Prediction
    from prunecast.plugins.interfaces import Predictor as Predictor
    from prunecast.plugins.interfaces import Pruner as Pruner
    from prunecast.plugins.interfaces import PrunerOptions as PrunerOptions
    from prunecast.plugins.interfaces import Searcher as Searcher
    from prunecast.plugins.interfaces import SearchProblem as SearchProblem
    from prunecast.plugins.interfaces import SearchSpace as SearchSpace
    from prunecast.plugins.worker_processes import Place as Place
    from prunecast.plugins.worker_processes import ProcessExecutor as ProcessExecutor

_NAMES = {
    "prunecast.architecture.architecture": "Architecture Floats Layer LayerImportance Sizes sizes_of",
    "prunecast.architecture.budget": "Budget",
    "prunecast.architecture.choices": (
        "Choice Component Indices Value WHOLE_LAYERS architectures_at ascending cut_rates indices_of "
        "shift_level sizes_at switch_levels"
    ),
    "prunecast.architecture.encodings": (
        "kept_fractions kept_fractions_directions relative_depth smoothed "
        "smoothed_directions structured structured_directions"
    ),
    "prunecast.architecture.shape": "ComponentCost LayerCost ModelShape Quantity",
    "prunecast.data": (
        "check_embedded content_hash dataset_label encode local_path place_of read_documents read_rows read_text "
        "split_label "
        "tokenize_head tokenize_spread"
    ),
    "prunecast.errors": (
        "BudgetError DataError EngineMissingError EvaluationError ExecutorError ExportError ModelError PluginError "
        "PrunecastError"
    ),
    "prunecast.models.families.family": "Family",
    "prunecast.models.families.layer_parts": "LayerParts Projection layers_of",
    "prunecast.models.families.head": "Head head_of logits_of",
    "prunecast.models.loss": "Loss",
    "prunecast.models.projections": "ShrinkingInput ShrinkingOutput",
    "prunecast.models.units": "sum_over_units where_float64_is",
    "prunecast.plugins.bos": "Bos begin_with bos_tokens",
    "prunecast.plugins.executor": "Executor Plain WorkerEvent",
    "prunecast.plugins.exporter": "Exporter Limits Parity PrunedModel Reference Written",
    "prunecast.plugins.events": "ArchitectureMeasured Event PredictorFitted RoundFinished RunFinished RunStarted",
    "prunecast.plugins.hookspecs": "CONTRACT Entry Trial hookimpl",
    "prunecast.plugins.interfaces": (
        "ByLayer CalibrationOptions CalibrationTexts CompensationOptions Evaluator Measurement Metric Plugin "
        "PluginOptions Prediction Predictor Pruner PrunerOptions SearchProblem "
        "SearchSpace Searcher"
    ),
    "prunecast.plugins.worker_processes": "Place ProcessExecutor",
}
"""Public names by the module that defines them."""

_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})

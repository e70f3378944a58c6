"""Tasks of the EleutherAI evaluation harness, as it runs them."""

import copy
import json
import logging
import math
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from importlib import import_module
from inspect import getsource
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from prunecast.plugins import (
    DataError,
    EvaluationError,
    Evaluator,
    Measurement,
    Metric,
    ModelShape,
    PluginError,
    PluginOptions,
)
from prunecast_plugins.evaluators.logits import LOGIT_ROWS, logits_of
from prunecast_plugins.evaluators.questions import encode
from prunecast_plugins.evaluators.windows import hidden_states

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHOTS_SEED = 1234
"""Seed of the harness for the choice of solved examples; its own default."""

SCORING = (
    "output_type",
    "doc_to_text",
    "doc_to_target",
    "doc_to_choice",
    "process_results",
    "metric_list",
    "filter_list",
    "repeats",
)
"""What a task's config says of how its requests are scored. The rest of it says how they are made, and names files."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class LMEvalOptions(PluginOptions):
    """Options of the harness."""

    immaterial = frozenset({"batch", "definitions"})

    tasks: tuple[str, ...] = Field(min_length=1, description="tasks or groups of tasks, by their names in lm-eval")
    metric: str = Field(default="acc", description="which of a task's metrics, e.g. acc_norm")
    shots: int | None = Field(default=None, ge=0, description="solved examples; what the task says if left out")
    limit: int | None = Field(default=None, ge=1, description="documents a task, the first ones; all if left out")
    definitions: Path | None = Field(default=None, description="folder of further task definitions, in YAML")
    batch: int = Field(default=8, ge=1, description="sequences a forward pass; does not change the result")


class LMEval(Evaluator[LMEvalOptions]):
    """Any log-likelihood task of https://github.com/EleutherAI/lm-evaluation-harness, run by the harness itself.

    Prompts, splits, scoring and standard errors are the harness's own, its version enters the data hash. Data come
    from the Hub. Tasks that generate text are refused: a pruned model's first layer may have no attention, and
    generation counts its tokens there.

    Needs the harness: ``pip install "prunecast[lm-eval]"``.
    """

    options_model = LMEvalOptions

    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """Load the tasks and build their prompts.

        Raises:
            PluginError: the harness is not installed.
            DataError: a task is unknown, its data cannot be had, it generates text, or it has no such metric.
        """
        options = self.options
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        manager = _harness("tasks").TaskManager(include_path=options.definitions)
        # A copy: the harness gives the tokenizer a padding token.
        self._tokenizer = copy.deepcopy(tokenizer)
        try:
            loaded = manager.load(list(options.tasks))
            self._asked = [_named(name, loaded["groups"] | loaded["tasks"]) for name in options.tasks]
            for task in self._tasks():
                self._build(task)
        except (KeyError, ValueError, OSError) as error:
            problem = error.args[0] if error.args else error
            raise DataError(f"lm_eval: {problem}; correct tasks, or go online") from error
        self._metrics = tuple(map(self._metric, options.tasks, self._asked))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """``TASK.SPLIT.METRIC``, one a task or group; SPLIT is that of the (first) task."""
        return self._metrics

    @property
    def data_hash(self) -> str:
        """Hash of the token ids of all requests, of all that scores them, and of the harness's version."""
        return hash_of(_harness().__version__, self._asked, self._ids)

    @property
    def tokens(self) -> int:
        """Tokens of all requests; fewer are fed to the model where requests share one."""
        return sum(len(ids) for task in self._tasks() for instance in task.instances for ids in self._ids(instance))

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Run the harness. Raises EvaluationError if a metric is not finite."""
        options = self.options
        self._check(model)
        language_model = _harness("models.huggingface").HFLM(
            pretrained=model, backend="causal", tokenizer=self._tokenizer, batch_size=options.batch
        )
        results = _harness().simple_evaluate(
            language_model,
            tasks=self._asked,
            num_fewshot=options.shots,
            limit=options.limit,
            bootstrap_iters=1000,
            log_samples=False,
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
            fewshot_random_seed=SHOTS_SEED,
        )["results"]
        return [_measurement(metric, results[name]) for name, metric in zip(options.tasks, self._metrics, strict=True)]

    def _tasks(self) -> list[Any]:
        """The tasks asked for, those of groups included."""
        return [task for asked in self._asked for task in _tasks_of(asked)]

    def _build(self, task: Any) -> None:
        """Make a task's requests, as the harness will make them again."""
        if task.OUTPUT_TYPE == "generate_until":
            raise DataError(f"lm_eval: task {task.task_name} generates text; choose tasks scored by log-likelihood")
        usual, wanted = task.get_config("num_fewshot"), self.options.shots
        # As in the harness: a task that says 0 has no examples to show.
        task.set_config("num_fewshot", (usual or 0) if wanted is None or usual == 0 else wanted)
        task.set_fewshot_seed(SHOTS_SEED)
        task.build_all_requests(limit=self.options.limit)

    def _check(self, model: "PreTrainedModel") -> None:
        """Raise EvaluationError if the logits of the first request are not finite: the harness would not notice."""
        import torch

        ids = [number for part in self._ids(self._tasks()[0].instances[0]) for number in part]
        tensor = torch.tensor([ids[:LOGIT_ROWS]], device=model.device)
        if not logits_of(model, hidden_states(model, tensor)[0]).isfinite().all():
            raise EvaluationError(f"lm_eval on {self._metrics[0].name}: the model's logits are not finite")

    def _ids(self, request: Any) -> list[list[int]]:
        texts = [text for text in request.args if isinstance(text, str)]
        return encode(self._tokenizer, texts)

    def _metric(self, name: str, asked: Any) -> Metric:
        metric, first = self.options.metric, _tasks_of(asked)[0]
        higher = first.higher_is_better()
        if metric not in higher:
            raise DataError(f"lm_eval: task {first.task_name} has no metric {metric!r}; it has {', '.join(higher)}")
        split = first.config.test_split or first.config.validation_split
        return Metric(f"{name}.{split}.{metric}", "maximize" if higher[metric] else "minimize", metric)


def hash_of(version: str, asked: Sequence[Any], ids: Callable[[Any], list[list[int]]]) -> str:
    """32 hexadecimal digits that change with whatever could change a score, and are the same in every process.

    Args:
        version: of the harness.
        asked: tasks and groups, their requests built.
        ids: token ids of the texts of a request.
    """
    content = [
        version,
        [getattr(each, "aggregate_metric_list", None) for each in asked],
        [_content(task, ids) for each in asked for task in _tasks_of(each)],
    ]
    return blake2b(json.dumps(content, default=_source).encode(), digest_size=16).hexdigest()


def _content(task: Any, ids: Callable[[Any], list[list[int]]]) -> list[Any]:
    """What a task's scores follow from, the model aside: code, config, and all that its documents say.

    Which part of a document is the right answer differs: its target, the number its text is, or whatever
    ``process_results`` looks at.
    """
    requests = [[ids(r), r.doc, task.doc_to_text(r.doc), task.doc_to_target(r.doc)] for r in task.instances]
    return [task.VERSION, type(task), [getattr(task.config, name, None) for name in SCORING], requests]


def _source(value: Any) -> str:
    """Code, where there is some; of anything else what it prints as, but for its place in memory."""
    try:
        return getsource(value)
    except (TypeError, OSError):
        return _ADDRESS.sub("", str(value))


def _harness(module: str = "") -> Any:
    """A module of the harness. Raises PluginError, saying what to install, if it is not there."""
    try:
        return import_module(f"lm_eval.{module}".rstrip("."))
    except ImportError as error:
        raise PluginError(f'evaluator lm_eval: {error}; install it with: pip install "prunecast[lm-eval]"') from error


def _tasks_of(asked: Any) -> list[Any]:
    """A task itself, or all tasks of a group."""
    return list(asked.get_all_tasks()) if hasattr(asked, "get_all_tasks") else [asked]


def _named(name: str, loaded: dict[str, Any]) -> Any:
    if name not in loaded:
        raise DataError(f"lm_eval: {name} is a tag; name its tasks instead: {', '.join(loaded)}")
    return loaded[name]


def _measurement(metric: Metric, result: dict[str, Any]) -> Measurement:
    """Keys of a result are ``METRIC,FILTER`` and ``METRIC_stderr,FILTER``; the error may be a word for none."""
    values = {key.partition(",")[0]: value for key, value in reversed(result.items())}
    value, error = float(values[metric.unit]), values.get(f"{metric.unit}_stderr")
    if not math.isfinite(value):
        raise EvaluationError(f"lm_eval: {metric.name} is {value}; choose another metric")
    known = error if isinstance(error, float) and math.isfinite(error) else None
    return Measurement(metric, value, known, result["sample_len"])

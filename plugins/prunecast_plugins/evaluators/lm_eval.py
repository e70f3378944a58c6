"""Tasks of the EleutherAI evaluation harness, run by the harness itself."""

import copy
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from importlib import import_module
from inspect import getsource
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from prunecast.plugins import (
    Bos,
    DataError,
    EvaluationError,
    Evaluator,
    Measurement,
    Metric,
    ModelShape,
    PluginError,
    PluginOptions,
    bos_tokens,
    encode,
    local_path,
    logits_of,
)
from prunecast_plugins.evaluators.logits import LOGIT_ROWS
from prunecast_plugins.evaluators.windows import hidden_states

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHOTS_SEED = 1234
"""Seed for the choice of few-shot examples: the default of the harness."""

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
"""Entries of a task's config that affect scoring. The others affect how requests are built, or name files."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class LMEvalOptions(PluginOptions):
    """Options of the lm_eval evaluator."""

    immaterial = frozenset({"batch", "definitions"})

    tasks: tuple[str, ...] = Field(min_length=1, description="names of tasks or groups of tasks in lm-eval")
    metric: str = Field(default="acc", description="metric of the tasks, e.g. acc_norm")
    shots: int | None = Field(
        default=None, ge=0, description="number of few-shot examples; the task's own number if left out"
    )
    limit: int | None = Field(
        default=None, ge=1, description="number of documents per task, from the first; all if left out"
    )
    definitions: Path | None = Field(default=None, description="folder with additional task definitions in YAML")
    batch: int = Field(default=8, ge=1, description="sequences per forward pass; does not change the result")
    bos: Bos = Field(
        default="auto",
        description="beginning-of-sequence token in front of each request; auto: for families that need it, such as "
        "Gemma, and for the others as the tokenizer is set",
    )

    @classmethod
    def named_code(cls, options: Mapping[str, Any]) -> Iterator[str]:
        """The folder of definitions: a definition can name Python functions beside it, which the harness imports."""
        if isinstance(options.get("definitions"), str):
            yield options["definitions"]


class LMEval(Evaluator[LMEvalOptions]):
    """Any log-likelihood task of https://github.com/EleutherAI/lm-evaluation-harness, run by the harness itself.

    Prompts, splits, scoring and standard errors are those of the harness, whose version is part of the data hash. Data
    come from the Hub. Tasks that generate text are rejected: generation counts the cached tokens in the first layer,
    and the first layer of a pruned model may have no attention.

    Requires the harness: ``pip install "prunecast[lm-eval]"``.
    """

    options_model = LMEvalOptions

    def prepare(self, tokenizer: "PreTrainedTokenizerBase", shape: ModelShape, data_dir: Path | None) -> None:
        """Load the tasks and build their prompts.

        Raises:
            PluginError: the harness is not installed.
            DataError: a task is unknown, its data are not available, it generates text, it lacks the metric, or ``bos``
                asks for a token that the tokenizer does not have.
        """
        options = self.options
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        definitions = options.definitions and local_path(options.definitions)
        manager = _harness("tasks").TaskManager(include_path=definitions)
        # A copy, because the harness adds a padding token to the tokenizer.
        self._tokenizer = copy.deepcopy(tokenizer)
        self._bos = bos_tokens(options.bos, tokenizer, shape)
        if self._bos:
            self._tokenizer.add_bos_token = True
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
        """``TASK.SPLIT.METRIC``, one per task or group; SPLIT is that of the first task of a group."""
        return self._metrics

    @property
    def data_hash(self) -> str:
        """Hash of the token ids of all requests, of everything that affects scores, and of the harness's version."""
        version = str(_harness().__version__)
        # The key tells where the token is put in front; where it is taken from a tokenizer that adds it, this does.
        taken = self.options.bos == "never" and _adds_bos(self._tokenizer)
        return hash_of(f"{version}, no bos" if taken else version, self._asked, self._ids)

    @property
    def tokens(self) -> int:
        """Number of tokens of all requests; an upper bound, as requests may share a forward pass."""
        return sum(len(ids) for task in self._tasks() for instance in task.instances for ids in self._ids(instance))

    def evaluate(self, model: "PreTrainedModel") -> list[Measurement]:
        """Run the harness. Raises EvaluationError if a metric is not finite."""
        options = self.options
        self._check(model)
        language_model = _harness("models.huggingface").HFLM(
            pretrained=model,
            backend="causal",
            tokenizer=self._tokenizer,
            batch_size=options.batch,
            add_bos_token=True if self._bos else None if options.bos == "auto" else False,
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
        """The tasks of the options, including those of groups."""
        return [task for asked in self._asked for task in _tasks_of(asked)]

    def _build(self, task: Any) -> None:
        """Build a task's requests in the same way as the harness does when it runs."""
        if task.OUTPUT_TYPE == "generate_until":
            raise DataError(f"lm_eval: task {task.task_name} generates text; choose tasks scored by log-likelihood")
        usual, wanted = task.get_config("num_fewshot"), self.options.shots
        # As in the harness: a task whose config has 0 has no few-shot examples.
        task.set_config("num_fewshot", (usual or 0) if wanted is None or usual == 0 else wanted)
        task.set_fewshot_seed(SHOTS_SEED)
        task.build_all_requests(limit=self.options.limit)

    def _check(self, model: "PreTrainedModel") -> None:
        """Raise EvaluationError if the logits of the first request are not finite, which the harness does not check."""
        import torch

        ids = [number for part in self._ids(self._tasks()[0].instances[0]) for number in part]
        tensor = torch.tensor([ids[:LOGIT_ROWS]], device=model.device)
        if not logits_of(model, hidden_states(model, tensor)[0]).isfinite().all():
            raise EvaluationError(f"lm_eval on {self._metrics[0].name}: the model's logits are not finite")

    def _ids(self, request: Any) -> list[list[int]]:
        texts = [text for text in request.args if isinstance(text, str)]
        return [[*self._bos, *ids] for ids in encode(self._tokenizer, texts)]

    def _metric(self, name: str, asked: Any) -> Metric:
        metric, first = self.options.metric, _tasks_of(asked)[0]
        higher = first.higher_is_better()
        if metric not in higher:
            raise DataError(f"lm_eval: task {first.task_name} has no metric {metric!r}; it has {', '.join(higher)}")
        split = first.config.test_split or first.config.validation_split
        return Metric(f"{name}.{split}.{metric}", "maximize" if higher[metric] else "minimize", metric)


def hash_of(version: str, asked: Sequence[Any], ids: Callable[[Any], list[list[int]]]) -> str:
    """Hash of everything that can change a score: 32 hexadecimal digits, the same in every process.

    Args:
        version: version of the harness.
        asked: tasks and groups whose requests are built.
        ids: function from a request to the token ids of its texts.
    """
    content = [
        version,
        [getattr(each, "aggregate_metric_list", None) for each in asked],
        [_content(task, ids) for each in asked for task in _tasks_of(each)],
    ]
    return blake2b(json.dumps(content, default=_source).encode(), digest_size=16).hexdigest()


def _content(task: Any, ids: Callable[[Any], list[list[int]]]) -> list[Any]:
    """Everything that a task's scores depend on apart from the model: code, config and complete documents.

    The right answer may be in any part of a document: tasks define it by a target, by the index of a text, or in
    ``process_results``.
    """
    requests = [[ids(r), r.doc, task.doc_to_text(r.doc), task.doc_to_target(r.doc)] for r in task.instances]
    return [task.VERSION, type(task), [getattr(task.config, name, None) for name in SCORING], requests]


def _source(value: Any) -> str:
    """Source code of a value if it has any, else its text without memory addresses."""
    try:
        return getsource(value)
    except (TypeError, OSError):
        return _ADDRESS.sub("", str(value))


def _harness(module: str = "") -> Any:
    """A module of the harness. Raises a PluginError with installation instructions if it is missing."""
    try:
        return import_module(f"lm_eval.{module}".rstrip("."))
    except ImportError as error:
        raise PluginError(f'evaluator lm_eval: {error}; install it with: pip install "prunecast[lm-eval]"') from error


def _tasks_of(asked: Any) -> list[Any]:
    """The tasks of a group, or a single task as a list."""
    return list(asked.get_all_tasks()) if hasattr(asked, "get_all_tasks") else [asked]


def _adds_bos(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """True if the tokenizer puts a beginning-of-sequence token in front of a text by itself."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


def _named(name: str, loaded: dict[str, Any]) -> Any:
    if name not in loaded:
        raise DataError(f"lm_eval: {name} is a tag; name its tasks instead: {', '.join(loaded)}")
    return loaded[name]


def _measurement(metric: Metric, result: dict[str, Any]) -> Measurement:
    """Measurement from a result with the keys ``METRIC,FILTER`` and ``METRIC_stderr,FILTER``.

    The harness writes a text in place of an unknown standard error.
    """
    values = {key.partition(",")[0]: value for key, value in reversed(result.items())}
    value, error = float(values[metric.unit]), values.get(f"{metric.unit}_stderr")
    if not math.isfinite(value):
        raise EvaluationError(f"lm_eval: {metric.name} is {value}; choose another metric")
    known = error if isinstance(error, float) and math.isfinite(error) else None
    return Measurement(metric, value, known, result["sample_len"])

"""Measuring within the memory of the device: smaller batches, then fewer reused activations."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from prunecast.errors import EvaluationError, is_out_of_memory
from prunecast.plugins.interfaces import Evaluator
from prunecast.progress import Progress

if TYPE_CHECKING:
    from prunecast.models.activation_reuse import ActivationReuse
    from prunecast.models.streamed.layer_major import LayerMajor

Answer = TypeVar("Answer")


def within_memory(
    action: Callable[[], Answer],
    evaluator: Evaluator[Any],
    *,
    name: str,
    owner: str,
    reuse: "ActivationReuse | LayerMajor",
    progress: Progress,
) -> Answer:
    """Result of an action of an evaluator, tried again with half the batch each time the device has no memory left.

    At batch 1, half of the activations kept for reuse are discarded each time, until none is left.

    Args:
        action: the action.
        evaluator: the evaluator, whose batch is halved.
        name: its name in a spec.
        owner: its name and distribution, for messages.
        reuse: activations kept for reuse.
        progress: where a smaller batch is reported.

    Raises:
        EvaluationError: the numbers would depend on the smaller batch.
    """
    while True:
        try:
            return action()
        except (RuntimeError, MemoryError) as error:
            halves = getattr(evaluator.options, "batch", 1) > 1
            if not is_out_of_memory(error) or not (halves or reuse.shrink()):
                raise
        if halves:
            # Activations of larger batches can never match again, and they occupy the memory that is missing.
            reuse.forget()
            _halve_batch(evaluator, name, owner, progress)


def _halve_batch(evaluator: Evaluator[Any], name: str, owner: str, progress: Progress) -> None:
    batch = evaluator.options.batch
    if "batch" not in type(evaluator.options).immaterial:
        raise EvaluationError(
            f"{owner}: out of memory with batch {batch}, on which its numbers depend; write a smaller batch "
            f"beside use: {name}"
        )
    evaluator.options = evaluator.options.model_copy(update={"batch": batch // 2})
    progress.say(f"{name}: out of memory, going on with batch {batch // 2}")

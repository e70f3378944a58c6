"""The speeds of a set-up: its table of component times, from the registry or measured now."""

import time
from dataclasses import asdict
from functools import partial

from prunecast.measure.component_times import STEPS, TimedModels, Workload, component_times, sizes_to_time
from prunecast.measure.device import device_name
from prunecast.measure.setup import Setup, dtype_name
from prunecast.progress import Progress
from prunecast.registry import Registry
from prunecast.registry.records import Timing
from prunecast.spec.load import error_at


def with_recorded_speeds(setup: Setup, registry: Registry) -> Setup:
    """The set-up with the table that its budget needs, if it needs one and the registry has it; else unchanged.

    Raises:
        SpecError: the context of the budget leaves no room in that of the model for the tokens that are timed.
        BudgetError: no architecture of the space meets the budget.
    """
    if not setup.spec.budget.speeds:
        return setup
    table = registry.speeds(_timing_of(setup, _workload_of(setup)))
    return setup if table is None else setup.with_speeds(table)


def with_measured_speeds(setup: Setup, registry: Registry, progress: Progress) -> Setup:
    """The set-up with the table that its budget needs, which is measured and recorded if the registry has none.

    Raises:
        SpecError, BudgetError: as for :func:`with_recorded_speeds`.
        RegistryError: the table cannot be recorded.
    """
    recorded = with_recorded_speeds(setup, registry)
    if recorded.speeds is not None or not setup.spec.budget.speeds:
        return recorded
    work = _workload_of(setup)
    models = TimedModels(setup.source.config(), setup.family, setup.spec.families)
    began = time.perf_counter()
    with progress.bar("component times", 1, "table") as advance:
        table = component_times(models, setup.shape, setup.choices, work)
        advance(1)
    keep = partial(registry.keep_speeds, seconds=time.perf_counter() - began)
    return setup.with_speeds(keep(_timing_of(setup, work), table))


def _workload_of(setup: Setup) -> Workload:
    budget, most = setup.spec.budget, setup.shape.context - STEPS
    context = budget.context or most
    if context > most:
        longer = (
            f"{context:,} leaves no room for the {STEPS} tokens that are timed after it: set it to {most:,} or less"
        )
        raise error_at(setup.spec, ("budget", "context"), longer)
    return Workload(budget.batch or 1, context, setup.dtype, setup.device)


def _timing_of(setup: Setup, work: Workload) -> Timing:
    import torch
    import transformers

    return Timing(
        shape=setup.shape,
        sizes=[asdict(each) for each in sizes_to_time(setup.shape, setup.choices)],
        device=device_name(setup.device),
        dtype=dtype_name(setup.dtype),
        threads=torch.get_num_threads(),
        batch=work.batch,
        context=work.context,
        engine=f"torch {torch.__version__}, transformers {transformers.__version__}",
    )

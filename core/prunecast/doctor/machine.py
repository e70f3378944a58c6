"""The device, the memory, the folders, and the Hub as this machine sees it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from prunecast.cache import cache_dir, obstacle
from prunecast.data.catalog import CATALOG
from prunecast.doctor.finding import Finding
from prunecast.text import counted, size

HUB_SECONDS = 8.0
"""Time after which the Hub counts as out of reach, whatever its libraries wait for."""

LITTLE_SPACE = 2_000_000_000
"""Bytes on a disk below which a conversion of a small model or an export may fail."""

_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 bfloat16", "avx512_f": "AVX-512", "avx2": "AVX2"}
"""Instructions for matrix products, by their name in torch."""

Answer = TypeVar("Answer")


def device() -> Iterator[Finding]:
    """The device and number format that ``auto`` chooses, the processor, and each CUDA device."""
    import psutil
    import torch

    from prunecast.measure.device import choose_device, choose_dtype

    chosen = choose_device("auto")
    dtype = str(choose_dtype("auto", chosen)).removeprefix("torch.")
    yield Finding("ok", "device", f"{chosen.type} in {dtype} is what a spec with device and dtype auto measures on")
    processor = processor_of(torch.cpu.get_capabilities())
    yield Finding("ok", "processor", f"{processor}, {counted(torch.get_num_threads(), 'thread')} for torch")
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        yield Finding("ok", f"cuda:{number}", f"{properties.name}, {size(free)} of {size(total)} free")
    memory = psutil.virtual_memory()
    yield Finding("ok", "memory", f"{size(memory.available)} of {size(memory.total)} free")


def processor_of(capabilities: Mapping[str, object]) -> str:
    """Name, number of cores and instructions of the processor with these ``torch.cpu.get_capabilities()``."""
    from prunecast.measure.device import is_faster_in_bfloat16

    name = str(capabilities.get("cpu_name") or capabilities.get("architecture") or "unknown")
    cores = capabilities.get("num_physical_cores")
    has = [word for flag, word in _INSTRUCTIONS.items() if capabilities.get(flag)]
    better = "bfloat16" if is_faster_in_bfloat16(capabilities) else "float32"
    counts = f", {counted(cores, 'core')}" if isinstance(cores, int) else ""
    return f"{name}{counts} with {', '.join(has) or 'no wide vectors'}, fastest in {better}"


def folders() -> Iterator[Finding]:
    """Folders of the cache, of temporary files, of the Hub's files and of data sets; none is made."""
    from huggingface_hub import constants

    yield _folder(
        "cache", cache_dir(), "a run keeps its rankings for itself only; set PRUNECAST_CACHE to another folder"
    )
    yield _temporary()
    yield _folder("hub cache", Path(constants.HF_HOME), "nothing can be downloaded; set HF_HOME to another folder")
    yield data_folder(os.environ.get("PRUNECAST_DATA"))


def _folder(subject: str, folder: Path, otherwise: str) -> Finding:
    nearest = next((place for place in (folder, *folder.absolute().parents) if os.path.exists(place)), Path("/"))
    state = "" if nearest == folder else ", not made yet"
    if reason := obstacle(folder):
        return Finding("warning", subject, f"{folder}{state}, cannot be written ({reason}): {otherwise}")
    free = shutil.disk_usage(nearest).free
    if free < LITTLE_SPACE:
        return Finding("warning", subject, f"{folder}{state}, {size(free)} free: make room on its disk")
    return Finding("ok", subject, f"{folder}{state}, writable, {size(free)} free")


def _temporary() -> Finding:
    try:
        return _folder("temporary files", Path(tempfile.gettempdir()), "set TMPDIR to another folder")
    except FileNotFoundError:
        told = "no folder for temporary files can be written: set TMPDIR to one that can"
        return Finding("broken", "temporary files", told)


def data_folder(named: str | None) -> Finding:
    """The folder of data sets, and those of the catalogue that are in it; a run can do without."""
    if not named:
        told = "PRUNECAST_DATA is not set: data sets come from the Hub or its cache, else there are texts of Python"
        return Finding("ok", "data", told)
    folder = Path(named).expanduser()
    if not folder.is_dir():
        told = f"{folder} (PRUNECAST_DATA) is no folder: name the folder that holds the data sets, or unset it"
        return Finding("warning", "data", told)
    found = [
        data_set.name
        for data_set in CATALOG.values()
        if any((folder / file).is_file() for file in data_set.files.values())
    ]
    if not found:
        return Finding("warning", "data", f"{folder} (PRUNECAST_DATA) has no data set that prunecast knows")
    return Finding("ok", "data", f"{folder} with {', '.join(found)}")


def hub() -> Iterator[Finding]:
    """Whether the Hub answers within seconds; it is not asked in offline mode."""
    from huggingface_hub import constants

    from prunecast.hub import unreachable

    if constants.HF_HUB_OFFLINE:
        told = "offline mode (HF_HUB_OFFLINE, or --offline): models and data come from this machine"
        yield Finding("ok", "hub", told)
        return
    silent = answer_within(HUB_SECONDS, unreachable)
    if silent is False:
        yield Finding("ok", "hub", f"{constants.ENDPOINT} answers")
    else:
        told = f"{constants.ENDPOINT} does not answer: models and data come from this machine; --offline does not ask"
        yield Finding("warning", "hub", told)


def answer_within(seconds: float, question: Callable[[], Answer]) -> Answer | None:
    """The answer to a question, or None if it takes longer; then its thread is left behind and ends with the process.

    A name server that does not answer blocks for longer than any time limit of a library.
    """
    answers: SimpleQueue[Answer] = SimpleQueue()
    Thread(target=lambda: answers.put(question()), daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except Empty:
        return None

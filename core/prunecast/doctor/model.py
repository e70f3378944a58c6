"""A model as a run would find it: its family, its tokenizer, its sizes, and the memory that it takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prunecast.architecture.shape import ModelShape
from prunecast.doctor.finding import Finding
from prunecast.errors import PrunecastError
from prunecast.export.proof.kept import kept_proof
from prunecast.export.targets import targets_for
from prunecast.first_spec.look import gradient_bytes, ranking_bytes
from prunecast.hub import only_its_cache
from prunecast.models.described import described
from prunecast.models.families.catalogue import Families
from prunecast.models.families.family import Family
from prunecast.models.families.sizes import shape_of
from prunecast.models.gguf_files import open_gguf
from prunecast.models.loading import free_memory
from prunecast.models.source import ModelSource, resolve_source
from prunecast.plugins.families import families_of
from prunecast.plugins.host import PluginHost
from prunecast.text import amounts, percent

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_HEAD = "output.weight"
"""Name of the head in a GGUF file; without it, head and embeddings are the same weights."""


def model(name: str, host: PluginHost) -> Iterator[Finding]:
    """What is on this machine of a model. No weight is read, nothing is downloaded, and no file is converted.

    Args:
        name: an alias, a ``.gguf`` file, a folder or a Hub id.
        host: where the descriptions of families come from.
    """
    subject = "model"
    try:
        with only_its_cache():
            source = resolve_source(name)
            yield Finding("ok", subject, f"{name}: {source.kind} at {source.path}")
            subject = "family"
            config, family = _described(source, families_of(host))
            shape = shape_of(config, family)
            yield Finding("ok", subject, _family(config, family, host))
            yield Finding("ok", "sizes", sizes(shape))
            yield memory(shape)
            subject = "tokenizer"
            yield Finding("ok", subject, _tokenizer(source))
            subject = "weights"
            yield from _weights(source)
    except PrunecastError as error:
        yield Finding("broken", subject, str(error))


def sizes(shape: ModelShape) -> str:
    """Sizes of a model in words."""
    groups, per_group, width = shape.dense.layers[0]
    parameters = int(shape.count([shape.dense])[0])
    embeddings = percent(shape.embeddings / parameters)
    return (
        f"{parameters:,} parameters, {embeddings} of them embeddings; {len(shape.dense.layers)} layers, the first with "
        f"{groups} x {per_group} query heads and an MLP of {width:,}; context {shape.context:,}"
    )


def memory(shape: ModelShape) -> Finding:
    """Memory that ranking and compensation take, against what is free on the device that ``auto`` chooses."""
    from prunecast.measure.device import choose_device

    free = free_memory(choose_device("auto"))
    best, least = ranking_bytes(shape), gradient_bytes(shape)
    need, needed, has = amounts(best, least, free)
    if best <= free:
        return Finding("ok", "memory needed", f"{need} to rank by obs and to compensate, {has} free")
    if least <= free:
        return Finding(
            "warning",
            "memory needed",
            f"{need} to rank by obs and to compensate, {has} free: rank by taylor ({needed})",
        )
    return Finding("broken", "memory needed", f"{needed} to rank by taylor, {has} free: choose a smaller model")


def _described(source: ModelSource, families: Families) -> "tuple[PreTrainedConfig, Family]":
    """Config and description of a model; of a GGUF file by its header, without a conversion."""
    if source.kind != "gguf":
        return described(source, families)
    config = source.header_config()
    config.tie_word_embeddings = all(tensor.name != _HEAD for tensor in open_gguf(source.path).tensors)
    return config, families.of(config)


def _family(config: "PreTrainedConfig", family: Family, host: PluginHost) -> str:
    """Whether a family is described or detected, and whether that is proven for the models of a config."""
    import transformers

    how = "described" if family.name in families_of(host) else "detected"
    proof = "no proof is kept; a run makes one before it measures, if the description is not bundled"
    if kept_proof(family, config) is not None:
        proof = f"proven with transformers {transformers.__version__}"
    targets = targets_for(host, config, family)
    return f"{family.name}, {how}; {proof}; exports: {', '.join(targets)}"


def _tokenizer(source: ModelSource) -> str:
    if source.kind == "gguf":
        return "in the file; the first use converts it, and takes up to a minute"
    tokenizer = source.tokenizer()
    begins = "with" if tokenizer.bos_token_id is not None else "without"
    return f"{type(tokenizer).__name__}, {len(tokenizer):,} tokens, {begins} a beginning-of-sequence token"


def _weights(source: ModelSource) -> Iterator[Finding]:
    """Whether the headers of the stored weights fit the config."""
    if source.kind == "gguf":
        return
    notes = source.check()
    folder = Path(source.path).name
    yield Finding("ok", "weights", f"their headers fit the config ({folder})")
    yield from (Finding("warning", "weights", note) for note in notes)

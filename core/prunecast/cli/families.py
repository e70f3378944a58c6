"""``prunecast families``."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prunecast.cli import completion
from prunecast.cli.output import echo, echo_lines, json_option, print_json, print_rows
from prunecast.cli.plugins import plugin_dir_option

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from prunecast.models.families.family import Family


@click.group()
def families() -> None:
    """List the families of models that can be pruned, and prove their descriptions."""


@families.command("list")
@click.option("--prove", is_flag=True, help="Run the proofs that have not been run here yet; takes minutes.")
@click.option("--markdown", is_flag=True, help="Print the page docs/reference/models.md.")
@plugin_dir_option
@json_option
def list_families(prove: bool, markdown: bool, plugin_dirs: tuple[Path, ...], as_json: bool) -> None:
    """List all causal language models of the installed transformers: described, detected, or refused, and why.

    A model type is proven if the numeric proof has accepted it, here and with this version of transformers.
    """
    import transformers

    from prunecast.export.proof import survey
    from prunecast.plugins.host import PluginHost
    from prunecast.progress import Progress

    host = PluginHost.discover(plugin_dirs)
    total = len(transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    with Progress().bar("model types", total, "types") as advance:
        found = list(survey.survey(host, prove, lambda: advance(1)))
    if markdown:
        echo_lines(survey.markdown(found, transformers.__version__).removesuffix("\n"))
        return
    rows = [{**each.to_json(), "exports": ", ".join(each.exports)} for each in found]
    print_json([each.to_json() for each in found]) if as_json else print_rows(rows, False, empty="")


@families.command()
@click.argument("subject", metavar="MODEL|NAME|FILE", shell_complete=completion.files)
@plugin_dir_option
@click.option("--trust-remote-code", is_flag=True, help="Run the code that comes with the model.")
@json_option
def check(subject: str, plugin_dirs: tuple[Path, ...], trust_remote_code: bool, as_json: bool) -> None:
    """Prove the description of a family by numbers; exit code 1 if it is wrong.

    The subject is a model (a folder, an alias or a Hub id), whose config is read; the name of a family, or the YAML
    file of one, which are proven for the default config of the class and for each variant. A small random model is
    pruned in every way, and has to compute what the dense model with the removed parts masked computes. Takes seconds,
    and reads no weight.
    """
    from dataclasses import asdict

    from prunecast.export.proof.kept import proven

    proofs = []
    for family, config, attributes in _subjects(subject, plugin_dirs, trust_remote_code):
        proof = proven(family, config, again=True)
        proofs.append({**asdict(proof), "config": attributes})
        if not as_json:
            echo(f"{proof}{''.join(f', {name}={value}' for name, value in attributes.items())}")
    if as_json:
        print_json(proofs)


def _subjects(
    subject: str, plugin_dirs: tuple[Path, ...], trust_remote_code: bool
) -> "Iterator[tuple[Family, PreTrainedConfig, dict[str, Any]]]":
    """Descriptions to prove, each with a config of models that it is for, and what is not default in it."""
    from prunecast.export.proof.survey import default_config, variant_configs
    from prunecast.models.described import described
    from prunecast.models.source import resolve_source
    from prunecast.plugins.families import families_of, is_file_name, read_family
    from prunecast.plugins.host import PluginHost

    known = families_of(PluginHost.discover(plugin_dirs))
    file = Path(subject)
    if is_file_name(subject) and file.suffix in (".yaml", ".yml"):
        family = read_family(file)
        yield from ((family, config, attributes) for attributes, config in variant_configs(family))
    elif subject in known and not file.is_dir():
        family = known[subject]
        yield from ((family, config, attributes) for attributes, config in variant_configs(family))
    elif _is_type(subject) and not file.is_dir():
        config = default_config(subject)
        yield known.of(config), config, {}
    else:
        config, family = described(resolve_source(subject, trust_remote_code=trust_remote_code), known)
        yield family, config, {}


def _is_type(name: str) -> bool:
    from transformers import CONFIG_MAPPING

    return name in CONFIG_MAPPING

"""``--offline``, before or behind the commands that would use a network."""

import os

import click


def _stay_offline(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"


offline_option = click.option(
    "--offline",
    is_flag=True,
    expose_value=False,
    callback=_stay_offline,
    help="Use no network: models and data come from this machine.",
)

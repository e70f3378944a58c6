"""Keys of the shipped registry: runs, settings and evaluations are still found under their keys."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing

import pytest
from places import SHIPPED_REGISTRY

from prunecast.measure.setup import spec_of
from prunecast.plugins.host import PluginHost
from prunecast.registry import PluginRecord, Registry
from prunecast.registry.sharing.records import evaluation_of, evaluation_records
from prunecast.spec.model import PluginUse

EARLIER = {3, 4}
"""Runs of an earlier version, recorded before a key left out what holds its default."""

HOST = PluginHost.discover()

SETTINGS = (104, "7b85ab217a987676f371bfa4ebacf9f7")
EVALUATIONS = (10240, "9f7ff1f6f5365fc5e0e2f8a3ea472696")
"""Number and digest of all setting keys, and of all evaluation keys (setting and architecture), as first recorded."""

GEMMA = "47559c86eb82ca79a4a18d68026ad4a8"
"""Fingerprint of Gemma-3-270M, whose run was added later: its numbers and digests are not among those above."""

OF_GEMMA = (6, 53)
"""Number of its settings and evaluations."""


def digest(keys: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(sorted(keys)).encode(), digest_size=16).hexdigest()


@pytest.fixture(scope="module")
def registry() -> Iterable[Registry]:
    with Registry.open(SHIPPED_REGISTRY, readonly=True) as opened:
        yield opened


def test_every_run_has_the_key_of_its_spec(registry: Registry) -> None:
    keys = {run.id: (run.key, spec_of(run, HOST).key) for run in registry.runs()}
    assert {number for number, (recorded, today) in keys.items() if recorded != today} == EARLIER
    assert len(keys) == 46


def test_settings_and_evaluations_have_the_keys_of_their_records(registry: Registry) -> None:
    settings, evaluations = set(), []
    of_gemma = []
    for record in evaluation_records(registry):
        evaluation = evaluation_of(record)
        if evaluation.setting.model.fingerprint == GEMMA:
            of_gemma.append(evaluation.setting.key)
            continue
        settings.add(evaluation.setting.key)
        evaluations.append(evaluation.setting.key + evaluation.architecture.key)
    assert (len(set(of_gemma)), len(of_gemma)) == OF_GEMMA
    assert (len(settings), digest(settings)) == SETTINGS
    assert (len(evaluations), digest(evaluations)) == EVALUATIONS


def test_plugins_of_every_spec_have_the_keys_recorded_by_the_run(registry: Registry) -> None:
    used = """
        SELECT DISTINCT v.key, v.name, v.options_json, v.data_hash FROM run_evaluations u
        JOIN evaluations e ON e.id = u.evaluation_id JOIN settings s ON s.id = e.setting_id
        JOIN evaluators v ON v.id = s.evaluator_id WHERE u.run_id = ?"""
    with closing(sqlite3.connect(SHIPPED_REGISTRY)) as connection:
        rows = {run.id: connection.execute(used, (run.id,)).fetchall() for run in registry.runs()}
    found = 0
    for run in registry.runs():
        spec = spec_of(run, HOST)
        for use in [*spec.evaluators, *spec.verify.evaluators]:
            hashes = [
                data_hash
                for _, name, options, data_hash in rows[run.id]
                if (name, json.loads(options)) == (use.use, use.options.material_options())
            ]
            recorded = {key for key, *_ in rows[run.id]}
            assert not hashes or key_of(use, hashes[0]) in recorded, (run.id, use.use)
            found += len(hashes)
    assert found > 100


def key_of(use: PluginUse, data_hash: str) -> str:
    plugin = HOST.find(use.kind, use.use).load()
    return PluginRecord(use.use, plugin.version, use.options.material_options(), data_hash, "").key

"""The plugin host, with third-party plugins as installed distributions and each host in a new process."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from prunecast.errors import PluginError
from prunecast.plugins.hookspecs import hookimpl, hookspec
from prunecast.plugins.host import KINDS, PluginHost
from prunecast.plugins.local import Origin

AVERAGE = """
    import numpy as np
    from pydantic import Field
    from prunecast.plugins.interfaces import PluginOptions, Prediction, Predictor

    class Options(PluginOptions):
        spread: float = Field(0.5, gt=0, description="Standard deviation of everything.")

    class Average(Predictor[Options]):
        options_model = Options

        def fit(self, architectures, targets):
            self.mean = targets.mean(axis=0)

        def predict(self, architectures):
            mean = np.tile(self.mean, (len(architectures), 1))
            return Prediction(mean, np.full_like(mean, self.options.spread))

    class Shapeless(Average):
        options_model = dict
"""


def predictors(*entries: str) -> str:
    """Source of a plugin module that registers predictors, each written ``NAME=TARGET``."""
    listed = ", ".join(f"Entry({name!r}, {target!r}, 'made up')" for name, target in (e.split("=") for e in entries))
    return (
        "from prunecast.plugins.hookspecs import Entry, hookimpl\n\n"
        f"@hookimpl\ndef prunecast_predictors():\n    return [{listed}]\n"
    )


def install(
    site: Path,
    distribution: str,
    plugin: str,
    more: Mapping[str, str] | None = None,
    version: str = "1.0",
    point: str = "",
) -> None:
    """Write a package as an installer does: its module ``plugin`` and its metadata."""
    package = distribution.replace("-", "_")
    for module, source in {"__init__": "", "plugin": plugin, **(more or {})}.items():
        file = site / package / f"{module}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(source))
    metadata = site / f"{package}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[prunecast]\n{point or distribution} = {package}.plugin\n")


def fresh(*arguments: object, sites: tuple[Path, ...], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a subprocess that finds the distributions of ``sites`` before all others."""
    path = {"PYTHONPATH": os.pathsep.join(map(str, sites))}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=os.environ | path | environment, capture_output=True, text=True, timeout=120)


def prunecast(*arguments: object, sites: tuple[Path, ...], **environment: str) -> subprocess.CompletedProcess[str]:
    return fresh("-m", "prunecast", *arguments, sites=sites, **environment)


def listed(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Distribution of every plugin in the output of ``plugins list --json``."""
    assert done.returncode == 0, done.stderr
    return {row["name"]: f"{row['distribution']} {row['version']}" for row in json.loads(done.stdout)}


# ---------------------------------------------------------------------------------------------- bundled plugins


def test_the_core_without_bundled_plugins_has_none_and_reports_it_in_one_line() -> None:
    host = PluginHost.discover()
    for name, _ in host.manager.list_name_plugin():
        host.manager.unregister(name=name)
    assert {kind: host.entries(kind) for kind in KINDS} == {kind: {} for kind in KINDS}
    with pytest.raises(PluginError) as error:
        host.find("pruner", "taylor")
    assert str(error.value) == "no pruner is called 'taylor'; available: none, no plugin provides one"


@pytest.mark.parametrize("kind", KINDS)
def test_the_bundled_plugins_come_through_the_entry_point_and_load(kind: str) -> None:
    host = PluginHost.discover()
    assert host.manager.has_plugin("prunecast:bundled")
    bundled = [entry for entry in host.entries(kind).values() if entry.distribution == "prunecast"]
    assert bundled
    assert all(issubclass(entry.load(), KINDS[kind][1]) for entry in bundled)


def test_the_list_reports_that_no_plugin_is_installed(tmp_path: Path) -> None:
    # Metadata without entry points that comes first on the path hides that of the real distribution.
    metadata = tmp_path / "prunecast-9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: prunecast\nVersion: 9\n")
    done = prunecast("plugins", "list", sites=(tmp_path,))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no plugin is installed: reinstall prunecast to get the bundled ones\n"


# ------------------------------------------------------------------------------------------ third-party plugins


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distribution ``acme-average`` 1.0, which also implements a hook that does not exist yet."""
    site = tmp_path_factory.mktemp("acme")
    optional = "\n@hookimpl(optionalhook=True)\ndef prunecast_exporters():\n    return []\n"
    plugin = predictors("average=acme_average.average:Average") + optional
    install(site, "acme-average", plugin, {"average": AVERAGE})
    return site


def test_a_third_party_plugin_is_listed_with_its_distribution(acme: Path) -> None:
    plugins = listed(prunecast("plugins", "list", "--kind", "predictor", "--json", sites=(acme,)))
    assert plugins["average"] == "acme-average 1.0"
    assert plugins["gbdt"].startswith("prunecast ")


def test_a_third_party_plugin_is_shown_with_its_options(acme: Path) -> None:
    shown = prunecast("plugins", "show", "average", sites=(acme,)).stdout
    assert shown.startswith("predictor average, acme-average 1.0\n")
    assert "Standard deviation of everything." in shown


def test_a_spec_with_a_third_party_plugin_is_validated_down_to_its_options(acme: Path, tmp_path: Path) -> None:
    spec = tmp_path / "average.yaml"
    text = """\
        model: {source: smollm2-135m}
        space: {use: layerwise}
        pruner: magnitude
        evaluators: [{use: perplexity, dataset: python-docs, split: test}]
        predictor: {use: average, spread: SPREAD}
        searcher: random
        budget: {parameters: 0.9}
        """
    for spread, returncode in (("0.25", 0), ("-1", 1)):
        spec.write_text(dedent(text).replace("SPREAD", spread))
        done = prunecast("spec", "validate", spec, sites=(acme,))
        assert done.returncode == returncode, done.stderr
    assert ":5:35: predictor.spread:" in done.stderr


def test_a_third_party_predictor_predicts(acme: Path) -> None:
    code = """if True:
        import numpy as np
        from prunecast.plugins.host import PluginHost
        average = PluginHost.discover().find("predictor", "average").load()
        predictor = average(average.options_model(spread=2.0), None, 0)
        predictor.fit([None, None], np.array([[1.0], [3.0]]))
        print(*predictor.predict([None]))
    """
    done = fresh("-c", code, sites=(acme,))
    assert done.stdout == "[[2.]] [[2.]]\n", done.stderr


def test_entry_points_of_two_distributions_may_share_a_name(tmp_path: Path) -> None:
    plugin = predictors("average=namesake.average:Average")
    install(tmp_path, "namesake", plugin, {"average": AVERAGE}, point="bundled")
    assert {"average", "gbdt"} <= set(listed(prunecast("plugins", "list", "--json", sites=(tmp_path,))))


def test_only_the_importable_version_of_a_distribution_is_used(acme: Path, tmp_path: Path) -> None:
    newer = predictors("average=acme_average.average:Average")
    install(tmp_path, "acme-average", newer, {"average": AVERAGE}, version="2.0")
    plugins = listed(prunecast("plugins", "list", "--json", sites=(tmp_path, acme)))
    assert plugins["average"] == "acme-average 2.0"


@pytest.mark.parametrize(("name", "rival"), [("average", "acme-average"), ("gbdt", "prunecast")])
def test_two_distributions_with_one_plugin_name_are_an_error_naming_both(
    name: str, rival: str, acme: Path, tmp_path: Path
) -> None:
    install(tmp_path, "copycat", predictors(f"{name}=copycat.average:Average"), {"average": AVERAGE})
    sites = (acme, tmp_path)
    done = prunecast("plugins", "show", name, sites=sites)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: predictor {name!r} is provided by both")
    assert "copycat 1.0" in line
    assert rival in line
    rows = json.loads(prunecast("plugins", "list", "--json", sites=sites).stdout)
    states = {row["distribution"]: row["state"] for row in rows if row["name"] == name}
    assert states.keys() == {"copycat", rival}
    assert all(state.startswith("clashes with ") for state in states.values())
    other = ("--set", "predictor=xgboost")
    assert prunecast("spec", "validate", "quickstart", *other, sites=sites).returncode == 0


def test_a_disabled_plugin_is_not_imported(acme: Path, tmp_path: Path) -> None:
    install(tmp_path, "loud", "print('imported')")
    disabled = {"PRUNECAST_DISABLE_PLUGINS": "loud, acme-average"}
    done = prunecast("plugins", "list", "--json", sites=(acme, tmp_path), **disabled)
    assert "average" not in listed(done)
    assert done.stderr == ""


# ----------------------------------------------------------------------------------------------- broken plugins

HOOK = "from prunecast.plugins.hookspecs import Entry, hookimpl\n\n@hookimpl\n"
GOOD_HOOK = f"{HOOK}def prunecast_evaluators():\n    return [Entry('lost', 'a:B', 'Lost with its broken sibling')]\n\n"
BROKEN = {
    "imports-missing": ("import no_such_module", "No module named 'no_such_module'"),
    "raises-nothing-known": ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
    "does-not-parse": ("def", "SyntaxError: "),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "has-no-hook": ("def prunecast_predictors():\n    return []\n", "it has no prunecast hook"),
    "misspells": (
        f"{GOOD_HOOK}{HOOK}def prunecast_prunners():\n    return []\n",
        "there is no hook 'prunecast_prunners' (did you mean 'prunecast_pruners'?)",
    ),
    "asks-for-more": (f"{GOOD_HOOK}{HOOK}def prunecast_pruners(model):\n    return []\n", "{'model'}"),
    "hands-over-a-number": (f"{GOOD_HOOK}{HOOK}def prunecast_pruners():\n    return 3\n", "returned int, not a list"),
    "hands-over-strings": (
        f"{HOOK}def prunecast_pruners():\n    return ['taylor']\n",
        "returned a list with str, not Entry",
    ),
    "raises-in-its-hook": (
        f"{HOOK}def prunecast_pruners():\n    return 1 / 0\n",
        "ZeroDivisionError: division by zero",
    ),
    "exits-in-its-hook": (f"{HOOK}def prunecast_pruners():\n    raise SystemExit(4)\n", "SystemExit: 4"),
    "is-of-an-old-contract": (
        f"PRUNECAST_CONTRACT = 0\n{GOOD_HOOK}",
        "it was written for contract 0, this prunecast needs 1 or newer",
    ),
    "is-of-a-contract-to-come": (
        f"PRUNECAST_CONTRACT = 9\n{GOOD_HOOK}",
        "it was written for contract 9, this prunecast has 1: upgrade prunecast",
    ),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one broken distribution of each kind."""
    site = tmp_path_factory.mktemp("broken")
    for distribution, (plugin, _) in BROKEN.items():
        install(site, distribution, plugin, version="0.3")
    return site


@pytest.fixture(scope="module")
def list_with_broken(broken: Path, acme: Path) -> subprocess.CompletedProcess[str]:
    return prunecast("plugins", "list", "--json", sites=(broken, acme))


def test_broken_plugins_leave_all_others_usable(list_with_broken: subprocess.CompletedProcess[str]) -> None:
    plugins = listed(list_with_broken)
    assert {"layerwise", "taylor", "perplexity", "gbdt", "tpe", "average"} <= set(plugins)
    assert set(plugins.values()).isdisjoint(f"{distribution} 0.3" for distribution in BROKEN)


@pytest.mark.parametrize("distribution", BROKEN)
def test_a_broken_plugin_is_reported_in_one_line_with_distribution_and_reason(
    distribution: str, list_with_broken: subprocess.CompletedProcess[str]
) -> None:
    reason = BROKEN[distribution][1]
    opening = f"plugin {distribution!r} of {distribution} 0.3 cannot be loaded from"
    lines = [line for line in list_with_broken.stderr.splitlines() if opening in line]
    assert lines, list_with_broken.stderr
    assert all(reason in line for line in lines)


def test_warnings_about_broken_plugins_have_no_source_lines(
    list_with_broken: subprocess.CompletedProcess[str],
) -> None:
    lines = list_with_broken.stderr.splitlines()
    assert [line for line in lines if not line.startswith(("warning: plugin", "broken: plugin"))] == []


def test_a_plugin_that_hangs_on_import_is_stopped_and_reported(tmp_path: Path) -> None:
    install(tmp_path, "sleeps", "import time\n\nwhile True:\n    time.sleep(9)\n")
    install(tmp_path, "spins", f"{GOOD_HOOK}@hookimpl\ndef prunecast_pruners():\n    while True:\n        pass\n")
    done = prunecast("plugins", "list", "--json", sites=(tmp_path,), PRUNECAST_PLUGIN_SECONDS="2")
    assert {"taylor", "gbdt"} <= set(listed(done))
    assert "'sleeps' of sleeps 1.0 did not return from its import within 2 s" in done.stderr
    assert "spins 1.0 did not return from its hook prunecast_pruners within 2 s" in done.stderr


def test_output_of_a_plugin_goes_to_stderr_with_its_name(tmp_path: Path) -> None:
    hook = predictors("average=loud.average:Average").replace("    return", "    print('asked')\n    return")
    install(tmp_path, "loud", f"print('imported')\n{hook}", {"average": AVERAGE})
    done = prunecast("plugins", "list", "--json", sites=(tmp_path,))
    assert "average" in listed(done)
    note = "prints to stdout, which is reserved for data; its output follows:"
    assert f"warning: plugin 'loud' of loud 1.0 {note}\nimported\n" in done.stderr
    assert f"warning: loud 1.0 {note}\nasked\n" in done.stderr


def test_tracing_prints_hook_calls_with_their_answers_and_times(acme: Path) -> None:
    done = prunecast("plugins", "list", "--kind", "predictor", sites=(acme,), PRUNECAST_TRACE="1")
    call = r"trace: prunecast_predictors\(\) of acme-average:acme-average: \[\[Entry\(name='average'.* in \d+\.\d ms"
    assert re.search(call, done.stderr)
    assert "trace" not in done.stdout


def test_a_deprecated_hook_is_reported_with_its_distribution_and_replacement(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Specs:
        @hookspec(warn_on_impl=DeprecationWarning("prunecast_old goes in 0.9: hand entries to prunecast_new"))
        def prunecast_old(self) -> None:
            """A hook of yesterday."""

    class Plugin:
        @hookimpl
        def prunecast_old(self) -> None:
            """Still there."""

    host = PluginHost()
    host.manager.add_hookspecs(Specs)
    host._origins["acme:old"] = Origin("acme", "2.0")
    host._register("acme:old", Plugin(), optional=False)
    [line] = caplog.messages
    assert line == "warning: acme 2.0: prunecast_old goes in 0.9: hand entries to prunecast_new"


def test_the_full_list_has_broken_and_disabled_plugins_with_reasons(broken: Path, acme: Path) -> None:
    disabled = {"PRUNECAST_DISABLE_PLUGINS": "acme-average"}
    done = prunecast("plugins", "list", "--all", "--json", sites=(broken, acme), **disabled)
    rows = {row["distribution"]: row for row in json.loads(done.stdout) if row["state"] != "ok"}
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {**dict.fromkeys(BROKEN, "broken"), "acme-average": "disabled"}
    assert all(BROKEN[name][1] in rows[name]["summary"] for name in BROKEN)
    assert rows["acme-average"]["summary"] == "is named in PRUNECAST_DISABLE_PLUGINS"


def test_a_spec_with_a_broken_plugin_is_refused_with_the_reason(broken: Path) -> None:
    done = prunecast("spec", "validate", "quickstart", "--set", "evaluators.0.use=lost", sites=(broken,))
    assert done.returncode == 1
    [problem] = [line for line in done.stderr.splitlines() if "no evaluator is called 'lost'" in line]
    assert "plugin 'misspells' of misspells 0.3 cannot be loaded from" in problem
    assert prunecast("spec", "validate", "quickstart", sites=(broken,)).returncode == 0


# ------------------------------------------------------------------------------------ entries with unusable targets

NOWHERE = {
    "no-module": ("nowhere.no_such:Average", "failed in its import from 'nowhere.no_such:Average': No module named"),
    "no-class": ("nowhere.average:Mean", "failed in its import from 'nowhere.average:Mean': AttributeError: "),
    "no-colon": ("nowhere.average", "failed in its import from 'nowhere.average': AttributeError: "),
    "module-that-exits": ("nowhere.exits:Average", "failed in its import from 'nowhere.exits:Average': SystemExit: 1"),
    "other-kind": ("prunecast.plugins.interfaces:Pruner", "is not a subclass of prunecast.plugins.Predictor"),
    "no-class-at-all": ("nowhere.average:np", "is not a subclass of prunecast.plugins.Predictor"),
    "no-options": ("prunecast.plugins.interfaces:Predictor", "has no options_model: set it to a subclass of prunecast"),
    "foreign-options": ("nowhere.average:Shapeless", "has no options_model: set it to a subclass of prunecast"),
}


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a distribution whose entries have unusable targets."""
    site = tmp_path_factory.mktemp("nowhere")
    entries = predictors(*(f"{name}={target}" for name, (target, _) in NOWHERE.items()))
    install(site, "nowhere", entries, {"average": AVERAGE, "exits": "raise SystemExit(1)"})
    return site


@pytest.fixture(scope="module")
def complaints(nowhere: Path) -> dict[str, str]:
    """Errors raised by loading each of its entries."""
    code = """if True:
        import json
        from prunecast.errors import PluginError
        from prunecast.plugins.host import PluginHost
        complaints = {}
        for name, entry in PluginHost.discover().entries("predictor").items():
            try:
                entry.load()
            except PluginError as error:
                complaints[name] = str(error)
        print(json.dumps(complaints))
    """
    done = fresh("-c", code, sites=(nowhere,))
    assert done.returncode == 0, done.stderr
    complaints: dict[str, str] = json.loads(done.stdout)
    return complaints


@pytest.mark.parametrize("name", NOWHERE)
def test_an_entry_with_an_unusable_target_is_a_one_line_error_when_loaded(
    name: str, complaints: dict[str, str]
) -> None:
    complaint = complaints[name]
    assert complaint.startswith(f"predictor {name!r} of nowhere 1.0")
    assert NOWHERE[name][1] in complaint
    assert "\n" not in complaint


def test_an_entry_with_an_unusable_target_is_listed_without_a_warning(nowhere: Path) -> None:
    done = prunecast("plugins", "list", "--json", sites=(nowhere,))
    assert set(NOWHERE) <= set(listed(done))
    assert done.stderr == ""
    shown = prunecast("plugins", "show", "module-that-exits", sites=(nowhere,))
    assert (shown.returncode, len(shown.stderr.splitlines())) == (1, 1)

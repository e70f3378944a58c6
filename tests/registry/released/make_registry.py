"""Write ``vN.db``, a small registry of the schema at hand. Run it once at every release that raises the schema:

python tests/registry/released/make_registry.py
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from registry_samples import architecture, measurements, setting, start

from prunecast.architecture.architecture import Layer
from prunecast.registry.schema.migrations import SCHEMA_VERSION
from prunecast.registry.store import Registry

if __name__ == "__main__":
    with Registry.open(Path(__file__).with_name(f"v{SCHEMA_VERSION}.db")) as registry:
        run = start(registry)
        for number in range(2):
            registry.record(run, "sample", setting(), architecture(number), measurements(31.5 + number), 1.0, "cpu")
        registry.record_failure(run, setting(), architecture(2), "out of memory")
        registry.record_steps(run, setting(), architecture(0), 1, {(0, Layer(4, 2, 12)): (0.125, 0.25)}, 2.0)
        registry.finish_run(run, "finished", {"best": 31.5})

"""rh_bench: measure retrieval heads in any Hugging Face causal language model, reproducibly.

```python
import rh_bench as rh

run = rh.evaluate("HuggingFaceTB/SmolLM2-135M-Instruct", haystack="sets/quick")
run.top(10)
```

The names in `__all__` are the public API; all other modules are internal. Names are imported on first use, so
`import rh_bench` is fast and needs neither torch nor transformers. See `docs/api.md` for the reference.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rh_bench.api.ablate import ablate as ablate
    from rh_bench.api.detect import detect as detect
    from rh_bench.api.evaluate import evaluate as evaluate
    from rh_bench.api.experiment import Experiment as Experiment
    from rh_bench.api.imported import ImportedHeads as ImportedHeads
    from rh_bench.api.load import Runs as Runs
    from rh_bench.api.load import load_experiment as load_experiment
    from rh_bench.api.load import load_run as load_run
    from rh_bench.api.load import load_runs as load_runs
    from rh_bench.api.load import load_set as load_set
    from rh_bench.api.run import Run as Run
    from rh_bench.api.table import Head as Head
    from rh_bench.api.table import HeadTable as HeadTable
    from rh_bench.api.table import Table as Table
    from rh_bench.detectors.base import Detector as Detector
    from rh_bench.detectors.base import Measured as Measured
    from rh_bench.detectors.base import Rule as Rule
    from rh_bench.detectors.base import Subject as Subject
    from rh_bench.errors import InputError as InputError
    from rh_bench.errors import RhBenchError as RhBenchError
    from rh_bench.errors import RhBenchWarning as RhBenchWarning
    from rh_bench.sets.dataset import HaystackSet as HaystackSet

_HOMES = {
    "evaluate": "rh_bench.api.evaluate",
    "ablate": "rh_bench.api.ablate",
    "detect": "rh_bench.api.detect",
    "load_run": "rh_bench.api.load",
    "load_runs": "rh_bench.api.load",
    "load_set": "rh_bench.api.load",
    "load_experiment": "rh_bench.api.load",
    "Run": "rh_bench.api.run",
    "Runs": "rh_bench.api.load",
    "HeadTable": "rh_bench.api.table",
    "Head": "rh_bench.api.table",
    "Table": "rh_bench.api.table",
    "ImportedHeads": "rh_bench.api.imported",
    "Experiment": "rh_bench.api.experiment",
    "HaystackSet": "rh_bench.sets.dataset",
    "Detector": "rh_bench.detectors.base",
    "Measured": "rh_bench.detectors.base",
    "Rule": "rh_bench.detectors.base",
    "Subject": "rh_bench.detectors.base",
    "InputError": "rh_bench.errors",
    "RhBenchError": "rh_bench.errors",
    "RhBenchWarning": "rh_bench.errors",
}
"""Public names in the order of the reference, and their modules."""

__all__ = [
    "Detector",
    "Experiment",
    "HaystackSet",
    "Head",
    "HeadTable",
    "ImportedHeads",
    "InputError",
    "Measured",
    "RhBenchError",
    "RhBenchWarning",
    "Rule",
    "Run",
    "Runs",
    "Subject",
    "Table",
    "__version__",
    "ablate",
    "detect",
    "evaluate",
    "load_experiment",
    "load_run",
    "load_runs",
    "load_set",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

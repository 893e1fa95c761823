"""Root networks for Caffe: generate, count, train, time and analyse filter groups.

    >>> import rootgen
    >>> net = rootgen.parse(rootgen.emit("nin", root=8))
    >>> print(net.cost())

What is named in `__all__` is the whole of it for a notebook; docs/python.md shows each. Nothing is loaded before it
is used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rootgen.correlation.open import correlate, correlate_responses
    from rootgen.engine.open import open_network, open_trainer
    from rootgen.engine.timing import measure
    from rootgen.engine.train import train
    from rootgen.errors import RootgenError
    from rootgen.figures.open import draw
    from rootgen.grouping import Plan
    from rootgen.net.open import diff, parse, read
    from rootgen.paper.emit import emit, solver
    from rootgen.transform.open import transform

__version__ = "0.1.0"

__all__ = [
    "Plan",
    "RootgenError",
    "correlate",
    "correlate_responses",
    "diff",
    "draw",
    "emit",
    "measure",
    "open_network",
    "open_trainer",
    "parse",
    "read",
    "solver",
    "train",
    "transform",
]

_MODULES = {
    "Plan": "grouping",
    "RootgenError": "errors",
    "correlate": "correlation.open",
    "correlate_responses": "correlation.open",
    "diff": "net.open",
    "draw": "figures.open",
    "emit": "paper.emit",
    "measure": "engine.timing",
    "open_network": "engine.open",
    "open_trainer": "engine.open",
    "parse": "net.open",
    "read": "net.open",
    "solver": "paper.emit",
    "train": "engine.train",
}


if not TYPE_CHECKING:  # a checker would take any name for one of the face

    def __getattr__(name: str) -> Any:
        """A name of the face, from the module that has it (PEP 562)."""
        from importlib import import_module

        if name == "transform":  # a room that can be called: see rootgen/transform
            return import_module("rootgen.transform")
        if name not in _MODULES:
            raise AttributeError(f"module 'rootgen' has no attribute '{name}'")
        found = getattr(import_module(f"rootgen.{_MODULES[name]}"), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

"""Filter groups for any net: which convolutions are in which stage, and the text with other groups.

The room is also a function, `rootgen.transform(net, root=8)`: see open.transform. Importing a submodule puts the
package itself under that name, whatever stood there; so the package can be called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rootgen.transform.result import Transformed


class _Room(ModuleType):
    """This package; called, it is open.transform."""

    def __call__(self, *args: Any, **keywords: Any) -> Transformed:
        from rootgen.transform.open import transform

        return transform(*args, **keywords)

    @property
    def __signature__(self) -> Any:
        """What help and notebooks show as the arguments."""
        from inspect import signature

        from rootgen.transform.open import transform

        return signature(transform)


sys.modules[__name__].__class__ = _Room

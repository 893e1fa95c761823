"""A built Caffe: where it lies, what it was made from, and how a program comes to use it."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shlex
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rootgen import paths
from rootgen.errors import RootgenError
from rootgen.files import write_text

log = logging.getLogger("rootgen")

RECORD = "rootgen.json"
VARIABLE = "ROOTGEN_CAFFE_PREFIX"
LINK = "rootgen-caffe.pth"
NOT_BUILT = "run: rootgen caffe build"


@dataclass(frozen=True)
class Prefix:
    """A folder with bin/caffe, lib/libcaffe.so and python/caffe."""

    path: Path

    @property
    def tool(self) -> Path:
        """The `caffe` program."""
        return self.path / "bin/caffe"

    @property
    def python(self) -> Path:
        """The folder that goes on PYTHONPATH."""
        return self.path / "python"

    @property
    def record(self) -> dict[str, Any]:
        """What the build wrote down: source, series, options, versions, seconds."""
        try:
            return dict(json.loads((self.path / RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RootgenError(f"not a Caffe that rootgen built: no {RECORD}", where=self.path) from error

    def environment(self) -> dict[str, str]:
        """Variables with which `caffe` and `import caffe` work; libraries are found by their RUNPATH."""
        return {
            VARIABLE: str(self.path),
            "PATH": _before("PATH", self.path / "bin"),
            "PYTHONPATH": _before("PYTHONPATH", self.python),
        }

    def exports(self) -> str:
        """Shell lines that set `environment`, appending to what the shell has."""
        path, python = shlex.quote(str(self.path / "bin")), shlex.quote(str(self.python))
        return (
            f"export {VARIABLE}={shlex.quote(str(self.path))}\n"
            f'export PATH={path}:"$PATH"\n'
            f'export PYTHONPATH={python}"${{PYTHONPATH:+:$PYTHONPATH}}"\n'
        )

    def link(self) -> Path:
        """Make `import caffe` work in this Python environment: a .pth file in its site-packages."""
        file = Path(sysconfig.get_path("purelib")) / LINK
        write_text(file, f"{self.python}\n")
        return file


def find_prefix(named: Path | None = None) -> Prefix:
    """The Caffe to use: `named`, else $ROOTGEN_CAFFE_PREFIX, else the last that `rootgen caffe build` built.

    RootgenError where there is none, or where somebody else can write to the one in the cache.
    """
    by_variable = os.environ.get(VARIABLE)
    chosen = named or (Path(by_variable) if by_variable else paths.cache("caffe") / "current")
    if (chosen / RECORD).is_file():
        if not (named or by_variable):  # those are the user's own word, as PYTHONPATH is
            paths.check_own_tree(chosen.resolve())
        return Prefix(chosen.resolve())
    if named or by_variable:
        where = "--prefix" if named else VARIABLE
        raise RootgenError(f"no Caffe built by rootgen here ({where})", where=chosen, hint=NOT_BUILT)
    raise RootgenError("no Caffe is built yet", hint=NOT_BUILT)


def import_path() -> str | None:
    """Why `import caffe` cannot work here, or None where it can; puts a built pycaffe on sys.path if it must."""
    found = importlib.util.find_spec("caffe")
    try:
        if found is not None and found.origin is not None:  # a folder without __init__.py has none, and is no pycaffe
            _check_linked(Path(found.origin))
            return None
        prefix = find_prefix()
    except paths.SharedCacheError as error:
        log.warning("pycaffe is passed over: %s", error)
        return error.what
    except RootgenError as error:
        return error.what
    python = prefix.python
    if not (python / "caffe/_caffe.so").is_file():
        return f"{python.parent}: built without pycaffe"
    made_for = prefix.record["python"]
    if made_for != sysconfig.get_python_version():
        return f"{python}: pycaffe is built for Python {made_for}, this is {sysconfig.get_python_version()}"
    sys.path.append(str(python))
    return None


def _check_linked(origin: Path) -> None:
    """Refuse a module of the cache, as `rootgen caffe build --link` has it found, that others can write to."""
    place = origin.resolve().parents[2]
    if (place / RECORD).is_file() and place.parent == (paths.root() / "caffe").resolve():
        paths.check_own_tree(place)


def _before(name: str, path: Path) -> str:
    """`path` put before what the variable `name` holds."""
    return os.pathsep.join(filter(None, [str(path), os.environ.get(name)]))

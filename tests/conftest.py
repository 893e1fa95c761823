"""What a test may need beyond the package, and the reason shown where it is not there."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from rootgen import paths
from rootgen.caffe_build.prefix import import_path

settings.register_profile("rootgen", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("rootgen")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with its reason, every test whose marker names something that this machine lacks; long pages go first."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")  # else one of several processes ends with it alone
    missing = {marker: reason for marker, reason in _missing(config).items() if reason}
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _missing(config: pytest.Config) -> dict[str, str | None]:
    """marker -> why its tests cannot run here, or None where they can."""
    return {
        "slow": None if config.getoption("--slow") else "takes minutes: run with --slow",
        "torch": None if find_spec("torch") else "PyTorch is not installed: pip install rootgen[torch]",
        "gpu": _no_gpu(),
        "caffe": import_path(),
    }


def _no_gpu() -> str | None:
    if not find_spec("torch"):
        return "PyTorch, which finds the CUDA device, is not installed"
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


@pytest.fixture(scope="session")
def caffe_tree() -> Path:
    """Top folder of a Caffe source tree: $ROOTGEN_CAFFE_SOURCE, else the one that `rootgen caffe build` fetched."""
    named = os.environ.get("ROOTGEN_CAFFE_SOURCE")
    for tree in [Path(named)] if named else sorted(paths.cache("caffe").glob("source-*")):
        if (tree / "src/caffe/proto/caffe.proto").is_file():
            return tree
    pytest.skip("no Caffe source tree: run make caffe, or set ROOTGEN_CAFFE_SOURCE")

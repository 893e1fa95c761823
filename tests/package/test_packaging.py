"""Wheel, sdist and editable installs find the templates; the schema loads with the oldest and newest protobuf."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# With --ignore-installed below, pip leaves this environment's own rootgen alone.
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
# Prints where rootgen lies, then uses what an install must carry: a template, the tables and the schema.
PROBE = "import rootgen; print(rootgen.__file__); from rootgen.cli import main; main(['emit', 'nin', '--root', '4'])"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, so that building leaves the checkout alone."""
    copy = tmp_path_factory.mktemp("checkout")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    return copy


def run(*words: object, **environment: str) -> str:
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, env={**os.environ, **environment}, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def probe(installed: Path) -> tuple[Path, str]:
    """Where the rootgen below `installed` was imported from, and the net it emits."""
    where, _, net = run(sys.executable, "-c", PROBE, PYTHONPATH=str(installed)).partition("\n")
    return Path(where), net


def test_wheel_and_sdist_carry_the_templates(checkout: Path, tmp_path: Path) -> None:
    run(
        sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, checkout
    )  # the wheel, by way of the sdist
    (wheel,) = tmp_path.glob("*.whl")
    run(*PIP, "install", "--no-deps", "--ignore-installed", "--target", tmp_path / "site", wheel)
    where, net = probe(tmp_path / "site")
    assert where.is_relative_to(tmp_path)
    assert 'name: "conv2a"' in net
    assert not (where.parent / "prototxt").exists()
    assert not (where.parents[1] / "prototxt").exists()
    emit = "from rootgen.cli import main; raise SystemExit(main(['emit', '--all']))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", emit], capture_output=True, text=True, env=environment, check=False, cwd="/"
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--all needs -o DIR" in done.stderr
    for folder in ("templates", "caffe_patches"):
        assert sorted(path.name for path in (where.parent / folder).iterdir() if path.name != "__pycache__") == sorted(
            path.name for path in (checkout / folder).iterdir()
        )


def test_editable_install_finds_the_templates(checkout: Path, tmp_path: Path) -> None:
    options = ("--no-deps", "--ignore-installed", "--no-build-isolation", "--prefix", tmp_path)
    run(*PIP, "install", *options, "--editable", checkout)
    (links,) = tmp_path.rglob("*.pth")
    # -S: the .pth of this environment's own rootgen stays unread; its other packages are added by path, behind.
    folders = [str(links.parent), sysconfig.get_path("purelib")]
    add = f"import sys, site; sys.path += {folders}; site.addsitedir({folders[0]!r})"
    where, _, net = run(sys.executable, "-S", "-c", f"{add}; {PROBE}", PYTHONPATH="").partition("\n")
    assert Path(where).is_relative_to(checkout)
    assert 'name: "conv2a"' in net


@pytest.mark.parametrize("version", ["4.21.12", "7.*"])
def test_schema_loads_with_protobuf(version: str, tmp_path: Path) -> None:
    fetched = subprocess.run(
        [*PIP, "install", "--no-deps", "--ignore-installed", "--target", str(tmp_path), f"protobuf=={version}"],
        capture_output=True,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"protobuf {version} cannot be fetched here: {fetched.stderr.decode().splitlines()[-1]}")
    script = (
        "import google.protobuf as g; from rootgen.proto import prototxt, schema;"
        "net = prototxt.read('prototxt/nin/root-4/train_val.prototxt', schema.NetParameter);"
        "again = prototxt.parse(prototxt.format(net), schema.NetParameter);"
        "assert again == net == schema.parse_bytes(schema.to_bytes(net), schema.NetParameter, 'x');"
        "print(g.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(version.rstrip("*"))

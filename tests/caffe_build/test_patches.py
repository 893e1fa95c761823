"""The patch series: well-formed headers; they apply in order to Caffe's tree and come off again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rootgen import paths
from rootgen.caffe_build import series
from rootgen.caffe_build import tree as source
from rootgen.errors import RootgenError

PATCHES = [*series.patches("build"), *series.patches("conv")]
TRAILERS = {"build": ["Cause", "Applies-to", "Tested"], "conv": ["Paper", "Applies-to", "Tested"]}


@pytest.fixture(scope="session")
def tree(caffe_tree: Path) -> source.Source:
    """Caffe's tree, which the series were made for."""
    return source.find_tree(caffe_tree)


@pytest.mark.parametrize("name", ["build", "conv"])
def test_series_names_every_patch_once_in_order(name: str) -> None:
    listed = [path.name for path in series.patches(name)]
    assert listed == sorted(path.name for path in (paths.resource("caffe_patches") / name).glob("*.patch"))
    numbers = [int(patch[:4]) for patch in listed]  # conv: 01xx for the CPU, 02xx for the GPU
    starts = [number for number in numbers if number - 1 not in numbers]
    assert all(number % 100 == 1 for number in starts), f"a gap before {starts}"


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_header(path: Path) -> None:
    header, _, diff = path.read_text(encoding="utf-8").partition("\n---\n")
    lines = header.splitlines()
    assert lines[0] == f"From {'0' * 40} Mon Sep 17 00:00:00 2001"
    assert lines[1].startswith("From: ")
    assert lines[2].startswith("Date: ")
    subject, _, message = header.partition("Subject: [PATCH] ")[2].partition("\n\n")
    assert len(" ".join(subject.split())) <= 72
    assert not subject.endswith(".")
    fields = re.findall(r"^([A-Z][A-Za-z-]+): (.+)$", message, re.MULTILINE)
    assert [name for name, _ in fields if name in TRAILERS[path.parent.name]] == TRAILERS[path.parent.name]
    assert dict(fields)["Applies-to"].startswith(f"BVLC/caffe {source.COMMIT[:9]}")
    assert "TBD" not in message
    assert message.strip().split("\n")[0].split(":")[0] not in TRAILERS[path.parent.name], "the header says no why"
    assert not re.search(r"(/work|/tmp|/home|/root)/", header)
    assert diff.count("\ndiff --git a/") >= 1


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_touches_only_what_a_build_copies(path: Path) -> None:
    touched = re.findall(r"^diff --git a/(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert touched
    for name in touched:
        assert name.startswith(tuple(source.PARTS)), name


def test_applies_in_order_and_comes_off_again(tree: source.Source, tmp_path: Path) -> None:
    series.copy_tree(tree, tmp_path)
    assert source.tree_hash(tmp_path) == source.TREE_SHA256
    series.apply(PATCHES, tree, tmp_path)
    assert source.tree_hash(tmp_path) != source.TREE_SHA256
    for path in reversed(PATCHES):
        assert series.run_patch(path, tmp_path, "--reverse") == ""
    assert source.tree_hash(tmp_path) == source.TREE_SHA256


def test_applied_twice(tree: source.Source, tmp_path: Path) -> None:
    series.copy_tree(tree, tmp_path)
    series.apply(PATCHES, tree, tmp_path)
    with pytest.raises(RootgenError, match="has the build series applied already"):
        series.apply(PATCHES, tree, tmp_path)


def test_local_change_in_the_way(tree: source.Source, tmp_path: Path) -> None:
    series.copy_tree(tree, tmp_path)
    changed = tmp_path / "src/caffe/util/io.cpp"
    changed.write_text(changed.read_text(encoding="utf-8").replace("536870912", "1 << 29"), encoding="utf-8")
    with pytest.raises(RootgenError, match=r"build/0001-\S+ does not apply: src/caffe/util/io.cpp: .*FAILED"):
        series.apply(PATCHES, tree, tmp_path)

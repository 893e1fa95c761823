"""The patch series (caffe_patches/build, caffe_patches/conv), applied to a copy of a tree, never to the tree."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rootgen import paths
from rootgen.caffe_build.tree import COMMIT, SourceTree, files
from rootgen.errors import RootgenError


def patches(name: str) -> list[Path]:
    """The patches of the series `name` (build or conv) in their order."""
    folder = paths.resource("caffe_patches") / name
    if not (folder / "series").is_file():
        return []
    lines = (folder / "series").read_text(encoding="utf-8").splitlines()
    return [folder / line.strip() for line in lines if line.strip() and not line.startswith("#")]


def wanted(*, vanilla: bool) -> list[Path]:
    """Every patch of a build: the build series, then the grouped convolutions unless `vanilla`."""
    return patches("build") + ([] if vanilla else patches("conv"))


def copy_tree(tree: SourceTree, place: Path) -> None:
    """Copy what a build reads of `tree` into the folder `place`."""
    for name in files(tree.path):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree.path / name, place / name)


def apply(patches: Sequence[Path], tree: SourceTree, place: Path) -> None:
    """Apply `patches` in order to `place`, a copy of `tree`; RootgenError names the first that does not fit."""
    for number, path in enumerate(patches):
        refused = run_patch(path, place)
        if not refused:
            continue
        if number == 0 and not run_patch(path, place, "--reverse", "--dry-run"):
            raise RootgenError(
                "the tree has the build series applied already", where=tree.path, hint="name the unpatched tree"
            )
        raise RootgenError(
            f"{path.parent.name}/{path.name} does not apply: {refused}",
            where=tree.path,
            hint=f"the series is made for BVLC/caffe {COMMIT[:9]}; undo local changes to the files it names",
        )


def run_patch(path: Path, place: Path, *options: str) -> str:
    """Apply one patch to the folder `place`, without fuzz; what `patch` said if it refused, else ''.

    (`git apply` inside a git-ignored folder of another repository changes nothing and exits with 0.)
    """
    command = ["patch", "--strip=1", "--fuzz=0", "--batch", "--no-backup-if-mismatch", "--reject-file=-", *options]
    if "--reverse" not in options:
        command.append("--forward")
    done = subprocess.run(
        [*command, f"--directory={place}", f"--input={path}"], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return ""
    said = [line for line in (done.stdout + done.stderr).splitlines() if "FAILED" in line or "can't find" in line]
    files = [
        line.split(maxsplit=2)[2] for line in done.stdout.splitlines() if line.startswith(("patching", "checking"))
    ]
    return f"{files[-1] if files else 'no file'}: {said[0] if said else 'refused'}"

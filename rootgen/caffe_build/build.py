"""Configure, compile and install a patched copy of Caffe; what was built once is kept in the cache."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import platform
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from rootgen import paths
from rootgen.caffe_build import own_tests, series, toolchain, tree
from rootgen.caffe_build.commands import Commands
from rootgen.caffe_build.options import BuildOptions
from rootgen.caffe_build.prefix import RECORD, Prefix
from rootgen.errors import RootgenError
from rootgen.files import replacing, write_text
from rootgen.progress import Report, silent

log = logging.getLogger("rootgen")

_CCACHE = ("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache", "-DCMAKE_CUDA_COMPILER_LAUNCHER=ccache")
ROOM_MB = {False: 700, True: 2000}  # for objects, by whether for the GPU


@dataclass(frozen=True)
class BuildPlan:
    """All that goes into a build; its hash is the name under which the cache keeps it."""

    options: BuildOptions
    source: tree.SourceTree
    patches: tuple[Path, ...]
    tools: toolchain.Toolchain

    @property
    def recipe(self) -> Path:
        """The folder of our CMakeLists.txt."""
        return paths.resource("caffe_patches") / "build"

    @property
    def key(self) -> str:
        """Hash of source, series, CMake files, options, compiler, Python and system."""
        digest = hashlib.sha256()
        cmake = [path for path in sorted(self.recipe.rglob("*")) if path.suffix in (".txt", ".cmake", ".cpp")]
        for path in (*cmake, *self.patches):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        facts = [self.source.sha256, asdict(self.options), self.tools.versions, list(map(str, self.tools.cuda_roots))]
        versions = _python(self.options)[2:]  # not where they lie: environments share a build
        digest.update(json.dumps([*facts, *versions, *_system()]).encode())
        return digest.hexdigest()[:16]


def build(
    options: BuildOptions,
    *,
    named: Path | None = None,
    prefix: Path | None = None,
    jobs: int | None = None,
    tests: bool = False,
    report: Report = silent,
) -> Prefix:
    """The Caffe that `options` ask for, built now or taken from the cache; copied to `prefix` where that is given.

    `tests`: build and run Caffe's own tests too, also where the cache has the build.
    """
    if prefix is not None:
        _check_place(prefix)
    if options.gpu and not options.arch:
        options = replace(options, arch=toolchain.gpu_arch())
    tools = toolchain.find_toolchain(options)
    with _one_at_a_time():
        plan = BuildPlan(options, tree.find_tree(named), tuple(series.wanted(vanilla=options.vanilla)), tools)
        kept = paths.cache("caffe") / plan.key
        if kept.exists():
            paths.check_own_tree(kept)
        if tests or not (kept / RECORD).is_file():
            _make(plan, kept, jobs or len(os.sched_getaffinity(0)), tests, report)
        if prefix is None:
            _point(paths.cache("caffe") / "current", kept.name)  # plan.key reads files, which may have changed
            return Prefix(kept)
        with replacing(prefix) as beside:
            _copy(kept, beside, prefix)
            shutil.rmtree(prefix, ignore_errors=True)
    return Prefix(prefix)


def _copy(kept: Path, beside: Path, prefix: Path) -> None:
    """Copy a build; ends at the first file that cannot be written (copytree tries, and tells of, every one)."""

    def one(source: str, target: str) -> None:
        try:
            shutil.copy2(source, target)
        except OSError as error:
            raise RootgenError(
                f"cannot install: {error.strerror}", where=prefix, hint="choose another --prefix"
            ) from error

    shutil.copytree(kept, beside, symlinks=True, copy_function=one)


def _make(plan: BuildPlan, kept: Path, jobs: int, tests: bool, report: Report) -> None:
    """Patch a copy, compile it and install it at `kept`; on failure only the log stays."""
    work = paths.cache("caffe") / "work"  # always the same place, so that ccache knows the files again
    begun = time.monotonic()
    shutil.rmtree(work, ignore_errors=True)
    try:
        _check_room(work.parent, ROOM_MB[plan.options.gpu])
        series.copy_tree(plan.source, work / "tree")
        series.apply(plan.patches, plan.source, work / "tree")
        commands = Commands(work.parent / "build.log", report)
        commands.run(_configure(plan, work, tests), "configuring")
        compile_ = ["cmake", "--build", str(work / "build"), "--parallel", str(jobs)]
        commands.run([*compile_, "--target", "all"], "compiling Caffe")
        if kept.exists():
            shutil.rmtree(kept)
        with replacing(kept) as beside:
            commands.run(["cmake", "--install", str(work / "build"), "--strip", "--prefix", str(beside)], "installing")
            if tests:
                own_tests.run(commands, work, beside, gpu=plan.options.gpu)
            write_text(beside / RECORD, _record(plan, time.monotonic() - begun))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    log.info("built in %.0f s", time.monotonic() - begun)


def _configure(plan: BuildPlan, work: Path, tests: bool) -> list[str]:
    """The cmake command that lays out the build."""
    python, numpy_include = _python(plan.options)[:2] if plan.options.python else ("", "")
    return [
        "cmake", "-G", plan.tools.generator, "-S", str(plan.recipe), "-B", str(work / "build"),
        f"-DCAFFE_SOURCE={work / 'tree'}",
        f"-DCMAKE_CXX_COMPILER={plan.tools.compiler}",
        f"-DWITH_TESTS={'ON' if tests else 'OFF'}",
        *([f"-DCUDA_ROOTS={';'.join(map(str, plan.tools.cuda_roots))}"] * plan.options.gpu),
        *(_CCACHE if shutil.which("ccache") else ()),
        *([f"-DPython3_EXECUTABLE={python}", f"-DPython3_NumPy_INCLUDE_DIR={numpy_include}"] * plan.options.python),
        *plan.options.cmake(),
    ]  # fmt: skip


def _record(plan: BuildPlan, seconds: float) -> str:
    """What was built, as JSON."""
    facts = {
        "source_sha256": plan.source.sha256,
        "pristine": plan.source.pristine,
        "series": [f"{path.parent.name}/{path.name}" for path in plan.patches],
        "options": asdict(plan.options),
        "python": sysconfig.get_python_version() if plan.options.python else None,
        "versions": plan.tools.versions,
        "seconds": round(seconds),
        "built": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return json.dumps(facts, indent=2) + "\n"


def _python(options: BuildOptions) -> tuple[str, ...]:
    """Interpreter, NumPy headers and the versions that pycaffe's binary depends on."""
    if not options.python:
        return ()
    import sys

    import numpy

    major = numpy.__version__.split(".")[0]
    return sys.executable, numpy.get_include(), sysconfig.get_python_version(), f"numpy {major}"


def _system() -> list[str]:
    """Machine and distribution release: what the libraries built against depend on."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:  # no os-release file
        release = {}
    return [platform.machine(), release.get("ID", ""), release.get("VERSION_ID", "")]


def _check_place(prefix: Path) -> None:
    """Refuse, before hours of work, a prefix that cannot be written or holds something else."""
    if prefix.exists() and not prefix.is_dir():
        raise RootgenError("is a file, not a folder", where=prefix, hint="choose another --prefix")
    if prefix.is_dir() and any(prefix.iterdir()) and not (prefix / RECORD).is_file():
        raise RootgenError("holds files that rootgen did not put there", where=prefix, hint="choose an empty --prefix")
    above = next(folder for folder in prefix.absolute().parents if folder.exists())
    try:
        tempfile.TemporaryDirectory(dir=above).cleanup()
    except OSError as error:
        raise RootgenError(
            f"cannot write into {above}: {error.strerror}", where=prefix, hint="choose another --prefix"
        ) from error


def _check_room(folder: Path, wanted: int) -> None:
    """Refuse to begin where the disk cannot hold the objects (`wanted` in MB)."""
    free = shutil.disk_usage(folder).free // 10**6
    if free < wanted:
        raise RootgenError(
            f"{free} MB are free, a build takes {wanted} MB", where=folder, hint="free some room or set ROOTGEN_CACHE"
        )


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold the cache's build lock; the second of two builds waits, then finds what the first built."""
    with (paths.cache("caffe") / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("another build of Caffe is going on: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _point(link: Path, key: str) -> None:
    """Make `link` the symbolic link to the build `key`."""
    beside = link.with_name(".current")
    beside.unlink(missing_ok=True)
    beside.symlink_to(key)
    beside.replace(link)

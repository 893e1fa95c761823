"""rootgen caffe: what it builds works; what cannot be built is told in one line and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rootgen import paths
from rootgen.caffe_build import check as checks
from rootgen.caffe_build import commands as steps
from rootgen.caffe_build import own_tests, prefix, series, toolchain
from rootgen.caffe_build import tree as source
from rootgen.caffe_build.build import BuildPlan, build
from rootgen.caffe_build.options import BuildOptions
from rootgen.cli import main
from rootgen.errors import RootgenError

ROOT = Path(__file__).resolve().parents[2]
BUILD_PATCHES = series.patches("build")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("ROOTGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(prefix.VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def ready(caffe_tree: Path) -> Path:
    """The tree, on a machine that can build it."""
    try:
        toolchain.find_toolchain(BuildOptions())
    except RootgenError as error:
        pytest.skip(str(error))
    return caffe_tree


def rootgen(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rootgen", *map(str, words)], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a command that failed as it should."""
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("rootgen caffe: ")
    assert "Traceback" not in done.stderr
    return last


def test_the_build_of_this_series_is_there(ready: Path) -> None:
    """Builds it if `make caffe` has not: a series that no longer compiles fails here, not in silence."""
    built = build(BuildOptions(), named=ready)
    assert built.record["series"] == [f"{path.parent.name}/{path.name}" for path in series.wanted(vanilla=False)]
    assert subprocess.run([built.tool, "--version"], capture_output=True, check=True).stdout == b"caffe version 1.0.0\n"


@pytest.mark.caffe
def test_check_trains_alike_by_tool_and_by_pycaffe(capsys: pytest.CaptureFixture[str]) -> None:
    ways = checks.check_prefix(prefix.find_prefix())
    assert [way for way, _, _ in ways] == ["caffe train", "pycaffe"]
    assert main(["caffe", "check"]) == 0
    assert "pycaffe" in capsys.readouterr().out


@pytest.mark.caffe
def test_check_sees_a_tool_that_does_not_work(tmp_path: Path) -> None:
    broken = tmp_path / "prefix"
    shutil.copytree(prefix.find_prefix().path, broken)
    (broken / "bin/caffe").write_text("#!/bin/sh\necho no such layer >&2\nexit 1\n", encoding="utf-8")
    with pytest.raises(RootgenError, match="caffe failed with exit code 1: no such layer"):
        checks.check_prefix(prefix.Prefix(broken))


@pytest.mark.caffe
def test_env_gives_a_shell_both_the_tool_and_pycaffe() -> None:
    script = f"""eval "$({sys.executable} -m rootgen caffe env)"
        caffe --version && {sys.executable} -c 'import caffe; print(caffe.__file__)'"""
    done = subprocess.run(["bash", "-ec", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["caffe version 1.0.0", f"{prefix.find_prefix().python}/caffe/__init__.py"]


@pytest.mark.caffe
def test_prefix_elsewhere_works_and_is_replaced(ready: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert main(["caffe", "build", "--source", str(ready), "--prefix", str(tmp_path / "here")]) == 0
    assert prefix.find_prefix(tmp_path / "here").exports().startswith(f"export {prefix.VARIABLE}={tmp_path}/here\n")
    subprocess.run([tmp_path / "here/bin/caffe", "--version"], check=True, capture_output=True)


def test_no_caffe_yet(cache: Path) -> None:
    assert one_line(rootgen("caffe", "env")) == "rootgen caffe: no Caffe is built yet (run: rootgen caffe build)"
    assert "no Caffe built by rootgen here" in one_line(rootgen("caffe", "check", "--prefix", cache))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arch", "90"], "--arch without --gpu"),
        (["--cudnn", "--nccl"], "--cudnn, --nccl without --gpu"),
        (["--gpu", "--arch", "hopper"], "--arch hopper is no CUDA architecture"),
    ],
)
def test_options_that_contradict(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caffe", "build", *words]) == 2
    assert message in capsys.readouterr().err


def test_source_that_is_no_tree(cache: Path, tmp_path: Path, ready: Path) -> None:
    assert "no such folder" in one_line(rootgen("caffe", "build", "--source", tmp_path / "none"))
    (tmp_path / "src").mkdir()
    told = one_line(rootgen("caffe", "build", "--source", tmp_path))
    assert "not a Caffe tree: it has no src/caffe/proto/caffe.proto" in told


def test_source_patched_already(cache: Path, tmp_path: Path, ready: Path) -> None:
    series.copy_tree(source.find_tree(ready), tmp_path / "tree")
    series.apply(BUILD_PATCHES, source.find_tree(ready), tmp_path / "tree")
    before = source.tree_hash(tmp_path / "tree")
    told = one_line(rootgen("caffe", "build", "--source", tmp_path / "tree"))
    assert told.endswith("the tree has the build series applied already (name the unpatched tree)")
    assert source.tree_hash(tmp_path / "tree") == before
    assert not (cache / "caffe/work").exists()


def test_source_with_local_changes(cache: Path, tmp_path: Path, ready: Path) -> None:
    """A change in the way of a patch stops the build; which files are changed is said wherever git knows."""
    tree = tmp_path / "tree"
    series.copy_tree(source.find_tree(ready), tree)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tree)]
    for words in (["init", "-q"], ["add", "-fA"], ["commit", "-qm", "tree"]):
        subprocess.run([*git, *words], check=True)
    changed = tree / "src/caffe/util/io.cpp"
    changed.write_text(changed.read_text(encoding="utf-8").replace("536870912", "1 << 29"), encoding="utf-8")
    done = rootgen("caffe", "build", "--source", tree)
    assert "1 files changed locally: src/caffe/util/io.cpp" in done.stderr
    assert f"build/{BUILD_PATCHES[0].name} does not apply: src/caffe/util/io.cpp" in one_line(done)


def test_fetched_tree_of_another_content_is_refused(
    cache: Path, tmp_path: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git from a repository whose tree is not Caffe's, then a Debian mirror that is not there."""
    (tmp_path / "other/src/caffe/proto").mkdir(parents=True)
    (tmp_path / "other/src/caffe/proto/caffe.proto").write_text("", encoding="utf-8")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(tmp_path / "other")]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "other"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(source, "REPOSITORY", str(tmp_path / "other"))
    monkeypatch.setattr(source, "COMMIT", commit)
    monkeypatch.setattr(source, "_mirrors", lambda: ["file:///nowhere/debian"])
    with pytest.raises(RootgenError, match=r"no Caffe tree: the tree's hash is .*; Debian's source package: "):
        source.find_tree()
    assert list((cache / "caffe").iterdir()) == []


def test_compiler_missing(cache: Path, tmp_path: Path) -> None:
    assert "CXX=nope names no compiler" in one_line(rootgen("caffe", "build", CXX="nope"))
    empty = tmp_path / "bin"
    empty.mkdir()
    told = one_line(rootgen("caffe", "build", PATH=str(empty)))
    assert "missing to build Caffe: g++, cmake, protobuf-compiler, patch, ninja-build" in told
    assert "run: apt-get install -y --no-install-recommends g++ cmake" in told


def test_header_missing(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(toolchain.HEADERS, ("no/such/header.h",), "libnone-dev")
    with pytest.raises(RootgenError, match=r"missing to build Caffe: libnone-dev \(run: apt-get install"):
        toolchain.find_toolchain(BuildOptions())


def test_compiler_and_header_missing_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One apt line brings all, though without a compiler none can be asked for headers."""
    monkeypatch.setattr(toolchain, "_compiler", lambda: "")
    monkeypatch.setitem(toolchain.HEADERS, ("no/such/header.h",), "libnone-dev")
    missing = toolchain.missing(BuildOptions())
    assert missing[0] == "g++"
    assert "libnone-dev" in missing


def test_compiler_that_does_not_run(cache: Path) -> None:
    assert "the compiler does not run: exit code 1" in one_line(rootgen("caffe", "build", CXX="false"))


@pytest.mark.parametrize("place", ["/proc/caffe", "{tmp}/file", "{tmp}/file/below", "{tmp}/full"])
def test_prefix_that_cannot_be_written(place: str, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").write_text("kept", encoding="utf-8")
    where = place.format(tmp=tmp_path)
    assert where in one_line(rootgen("caffe", "build", "--prefix", where))
    assert (tmp_path / "full/mine").read_text(encoding="utf-8") == "kept"


def test_disk_too_small(cache: Path, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootgen.caffe_build.build.ROOM_MB", {False: 10**9})
    with pytest.raises(RootgenError, match=r"MB are free, a build takes 1000000000 MB"):
        build(BuildOptions(), named=ready)
    assert sorted(path.name for path in (cache / "caffe").iterdir()) == ["lock"]


def running(*words: str) -> list[str]:
    """The command lines of the processes that have all of `words` in theirs."""
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if all(word in line for word in words)]


@pytest.mark.caffe
def test_prefix_on_a_full_disk(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, not one per file, and nothing half installed."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(RootgenError, match=r"here: cannot install: No space left on device \(choose another --prefix"):
        build(BuildOptions(), named=ready, prefix=tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_nothing_behind(
    number: signal.Signals, cache: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal reaches rootgen alone, not its children: they must not go on compiling."""
    monkeypatch.setenv("CCACHE_DISABLE", "1")  # or it might be done too soon
    heeding = ["env", "--default-signal=INT"]  # a shell's background job, as this run may be, ignores Ctrl-C
    words = [*heeding, sys.executable, "-m", "rootgen", "caffe", "build", "--source", str(ready)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if "compiling" in line:
                break
        while not running(str(cache), ".cpp.o"):
            assert child.poll() is None
            time.sleep(0.1)
        child.send_signal(number)
        said = child.stderr.read()
    assert child.returncode == (130 if number == signal.SIGINT else 143)
    assert "Traceback" not in said
    assert sorted(path.name for path in (cache / "caffe").iterdir()) == ["build.log", "lock"]
    assert running(str(cache)) == []


def test_failed_build_shows_the_telling_line(cache: Path, ready: Path, tmp_path: Path) -> None:
    """A tree that does not compile: the compiler's own words, and no prefix."""
    tree = tmp_path / "tree"
    series.copy_tree(source.find_tree(ready), tree)
    header = tree / "include/caffe/common.hpp"
    header.write_text('#error "this tree is broken"\n' + header.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(RootgenError, match=r"compiling Caffe failed: .*common.hpp:1:2: error: .*this tree is broken"):
        build(BuildOptions(python=False), named=tree)
    assert sorted(path.name for path in (cache / "caffe").iterdir()) == ["build.log", "lock"]


def test_telling_lines_are_the_first_errors() -> None:
    log = [
        "[1/9] Building CXX object x.o",
        "x.cpp:3:1: warning: unused",
        "x.cpp:7:5: error: 'foo' was not declared",
        "x.cpp:7:5: error: 'foo' was not declared",
        "ninja: build stopped: subcommand failed.",
        "make: *** [all] Error 2",
    ]
    assert steps.first_telling(log) == ["x.cpp:7:5: error: 'foo' was not declared"]


@pytest.mark.slow
@pytest.mark.caffe
def test_caffes_own_tests_pass(ready: Path) -> None:
    """C++: every file of src/caffe/test, but those that need OpenCV or LevelDB. pycaffe: all but drawing."""
    build(BuildOptions(), named=ready, tests=True)
    log = (paths.cache("caffe") / "build.log").read_text(encoding="utf-8")
    run = re.findall(r"Running (\d+) tests", log)  # all of them, then the kernels' under each lesser instruction set
    assert int(run[0]) >= own_tests.CPP_TESTS
    assert len(run) == 1 + len(own_tests.LESSER_SETS)
    assert re.findall(r"\[  PASSED  \] (\d+) tests", log) == run
    assert "\nOK\n" in log or "\nOK (skipped" in log


@pytest.mark.slow
def test_cuda_build_links(ready: Path, tmp_path: Path) -> None:
    options = BuildOptions(gpu=True, arch="90", cudnn=True, nccl=True)
    try:
        toolchain.find_toolchain(options)
    except RootgenError as error:
        pytest.skip(str(error))
    built = build(options, named=ready, prefix=tmp_path / "gpu")  # not the one that other tests then import
    needed = subprocess.run(
        ["readelf", "-d", built.path / "lib/libcaffe.so"], capture_output=True, text=True, check=True
    )
    for library in ("libcudart", "libcublas", "libcurand", "libcudnn", "libnccl"):
        assert f"[{library}.so" in needed.stdout
    subprocess.run([built.tool, "--version"], check=True, capture_output=True)


PACKAGE = """\
add_library(protobuf::libprotobuf INTERFACE IMPORTED)
add_executable(protobuf::protoc IMPORTED)
set_target_properties(protobuf::protoc PROPERTIES IMPORTED_LOCATION ${CMAKE_CURRENT_LIST_DIR}/bin/protoc)
"""
PROJECT = """\
cmake_minimum_required(VERSION 3.18...4.0)
project(Dependencies LANGUAGES C CXX)
include(%s)
add_custom_target(protoc COMMAND ${PROTOC})
"""


def test_protoc_is_that_of_the_library(ready: Path, tmp_path: Path) -> None:
    package, beside = tmp_path / "package", tmp_path / "path"
    for folder, word in ((package / "bin", "the library's"), (beside, "another")):
        folder.mkdir(parents=True)
        (folder / "protoc").write_text(f'#!/bin/sh\necho "{word}"\n', encoding="utf-8")
        (folder / "protoc").chmod(0o755)
    (package / "protobuf-config.cmake").write_text(PACKAGE, encoding="utf-8")
    recipe = paths.resource("caffe_patches") / "build/cmake/dependencies.cmake"
    (tmp_path / "CMakeLists.txt").write_text(PROJECT % recipe, encoding="utf-8")
    environment = {**os.environ, "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}
    configure = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-Dprotobuf_DIR={package}", "-DWITH_HDF5=OFF"]
    done = subprocess.run(configure, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    build_ = ["cmake", "--build", tmp_path / "build", "--target", "protoc"]
    done = subprocess.run(build_, env=environment, capture_output=True, text=True, check=False)
    assert "the library's" in done.stdout, done.stdout + done.stderr


def test_environments_share_a_build(ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another interpreter of the same version, as a fresh checkout's .venv has, finds what was built."""
    plan = BuildPlan(
        BuildOptions(), source.find_tree(ready), tuple(BUILD_PATCHES), toolchain.find_toolchain(BuildOptions())
    )
    key = plan.key
    monkeypatch.setattr(sys, "executable", "/elsewhere/bin/python")
    assert plan.key == key
    monkeypatch.setattr("sysconfig.get_python_version", lambda: "3.99")
    assert plan.key != key

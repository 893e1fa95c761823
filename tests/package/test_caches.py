"""What is run from a cache is the user's own: no folder of others, no damaged entry."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rootgen import paths
from rootgen.caffe_build import prefix
from rootgen.errors import RootgenError

OTHER = 12345  # a user that is not this one
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROOTGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def emit(cache: object, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ROOTGEN_CACHE": str(cache), **more}
    command = [sys.executable, "-m", "rootgen", "emit", "nin", "--root", "8"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_folders_are_made_for_this_user_alone(here: Path) -> None:
    before = os.umask(0)
    try:
        made = paths.cache("templates")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (here, made)] == [0o700, 0o700]


@pytest.mark.parametrize("name", ["ROOTGEN_CACHE", "XDG_CACHE_HOME"])
def test_a_relative_cache_is_none(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ROOTGEN_CACHE", raising=False)
    monkeypatch.setenv(name, "here")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RootgenError, match=f"{name} is 'here', no absolute path"):
        paths.cache("templates")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o702])
@pytest.mark.parametrize("level", ["above", "top", "own"])
def test_a_folder_that_others_can_write_to_is_none(here: Path, mode: int, level: str) -> None:
    made = paths.cache("templates")
    {"above": here.parent, "top": here, "own": made}[level].chmod(mode)
    with pytest.raises(RootgenError, match="others can write to it"):
        paths.cache("templates")


def test_a_folder_where_only_owners_rename_may_be_above(here: Path) -> None:
    here.parent.chmod(0o1777)
    assert paths.cache("templates").is_dir()


@AS_ROOT
def test_a_folder_of_another_user_is_none(here: Path) -> None:
    os.chown(paths.cache("templates"), OTHER, OTHER)
    with pytest.raises(RootgenError, match="belongs to another user"):
        paths.cache("templates")


def test_emit_works_without_a_cache_and_says_why(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    good, bad = emit(tmp_path / "own"), emit(shared)
    assert (good.returncode, good.stderr) == (0, "")
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (0, good.stdout, 1)
    assert "templates are compiled anew" in bad.stderr
    assert not (shared / "templates").exists() or not list((shared / "templates").iterdir())


FLIP = """
import sys
from pathlib import Path
from rootgen.generator import render, templates
from rootgen.generator.architectures import architecture
from rootgen.grouping import Plan
import random
random.seed(7)
arch, plan = architecture("nin"), Plan("root", 8)
wanted = render.net(arch, plan)
entries = sorted(Path(sys.argv[1], "templates").iterdir())
assert entries
for turn in range(160):
    entry = entries[turn % len(entries)]
    whole = entry.read_bytes()
    damaged = bytearray(whole)
    damaged[random.randrange(len(whole))] ^= 1 << random.randrange(8)
    entry.write_bytes(damaged)
    templates.environment.cache_clear()
    assert render.net(arch, plan) == wanted, (entry, turn)
    assert entry.read_bytes() == whole, "a damaged entry is written anew"
print(turn + 1)
"""


def test_no_flipped_bit_of_a_compiled_template_does_harm(tmp_path: Path) -> None:
    environment = {**os.environ, "ROOTGEN_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", FLIP, str(tmp_path / "cache")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "160\n", "")


def built(cache: Path) -> Path:
    """What looks like a Caffe that `rootgen caffe build` made, and would run code of its own."""
    place = cache / "caffe" / "0123456789abcdef"
    (place / "python/caffe").mkdir(parents=True, mode=0o755)
    (place / "rootgen.json").write_text(f'{{"python": "{sys.version_info[0]}.{sys.version_info[1]}"}}')
    (place / "python/caffe/_caffe.so").write_bytes(b"")
    (place / "python/caffe/__init__.py").write_text("raise SystemExit('run')")
    (cache / "caffe/current").symlink_to(place.name)
    return place


@pytest.fixture
def no_other_caffe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(prefix.VARIABLE, raising=False)
    monkeypatch.setattr(prefix.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.usefixtures("no_other_caffe")
@pytest.mark.parametrize("part", ["python", "python/caffe", "python/caffe/__init__.py", "rootgen.json"])
def test_a_caffe_that_others_can_write_to_is_not_imported(here: Path, part: str) -> None:
    place = built(here.parent / "cache")
    for folder in (here, here / "caffe"):
        folder.chmod(0o700)
    assert prefix.import_path() is None
    assert sys.path.pop() == str(place / "python")
    (place / part).chmod(0o777)
    assert "another user owns it or can write to it" in str(prefix.import_path())
    assert str(place / "python") not in sys.path


def test_a_linked_caffe_of_the_cache_is_no_exception(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = built(here)
    for folder in (here, here / "caffe"):
        folder.chmod(0o700)
    monkeypatch.delitem(sys.modules, "caffe", raising=False)  # what another test has imported would be found
    monkeypatch.setattr(sys, "path", [str(place / "python"), *sys.path])
    assert prefix.import_path() is None
    (place / "python/caffe/__init__.py").chmod(0o666)
    assert "another user owns it or can write to it" in str(prefix.import_path())


@pytest.mark.usefixtures("no_other_caffe")
def test_current_does_not_lead_to_somebody_elses(here: Path, tmp_path: Path) -> None:
    for folder in (here, here / "caffe"):
        folder.mkdir(mode=0o700)
    place = built(tmp_path / "theirs")
    (tmp_path / "theirs").chmod(0o777)
    (here / "caffe/current").symlink_to(place)
    assert "others can write to it" in str(prefix.import_path())


def test_the_users_own_word_is_not_doubted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = built(tmp_path / "named")
    place.chmod(0o777)
    assert prefix.find_prefix(place).path == place
    monkeypatch.setenv(prefix.VARIABLE, str(place))
    assert prefix.find_prefix().path == place


def test_random_bytes_are_no_entry(tmp_path: Path) -> None:
    assert emit(tmp_path).returncode == 0
    random.seed(1)
    for entry in (tmp_path / "templates").iterdir():
        entry.write_bytes(random.randbytes(5000))
    assert (emit(tmp_path).returncode, emit(tmp_path).stderr) == (0, "")

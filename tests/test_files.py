"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootgen.errors import RootgenError
from rootgen.files import check_writable, read_bytes, replacing, write_text


def test_write_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "one")
    target.chmod(0o640)
    write_text(target, "two")
    assert target.read_text() == "two"
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_a_broken_write_changes_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(stop), replacing(target) as beside:
        beside.write_text("half")
        raise stop
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_takes_its_place_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "set") as beside:
        beside.mkdir()
        (beside / "x").write_text("1")
        assert not (tmp_path / "set").exists()
    assert (tmp_path / "set" / "x").read_text() == "1"


def test_full_disk_is_one_line() -> None:
    with pytest.raises(RootgenError, match=r"^/dev/full: cannot write: No space left on device \(free some room\)$"):
        write_text("/dev/full", "x")


def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "one")
    write_text(tmp_path / "link", "two")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "two"


@pytest.mark.parametrize("use", [check_writable, lambda path: write_text(path, "x")])
def test_a_file_where_a_folder_should_be(tmp_path: Path, use) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a").write_text("")
    with pytest.raises(RootgenError, match="cannot write"):
        use(tmp_path / "a" / "b")


def test_a_check_makes_the_folder_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("as it was")
    check_writable(tmp_path / "old")
    check_writable(tmp_path / "new" / "x")
    check_writable("/dev/full")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "old"]
    assert (tmp_path / "old").read_text() == "as it was"


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RootgenError, match=r"gone: cannot read: No such file or directory"):
        read_bytes(tmp_path / "gone")

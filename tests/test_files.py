"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rootgen import scratch
from rootgen.errors import RootgenError, printable
from rootgen.files import check_writable, inside, read_bytes, replacing, safe_name, write_bytes, write_text
from rootgen.locks import locked


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


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("conv2c-conv3a", "conv2c-conv3a"),
        ("Größe 3", "Größe 3"),
        ("inception_3a/3x3", "inception_3a_3x3"),
        ("../../x", "__.._x"),
        ("/abs/x", "_abs_x"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        (".hidden", "_hidden"),
        ("-rf", "_rf"),
        ("a\\b", "a_b"),
        ("a\nb\x1b[31m", "a_nb_x1b[31m"),
        ("a\u202eb", "a_u202eb"),
        ("a\0b", "a_x00b"),
        ("a\udc80", "a_udc80"),
    ],
)
def test_safe_names(name: str, safe: str, tmp_path: Path) -> None:
    assert safe_name(name) == safe
    path = inside(tmp_path, safe)
    path.write_bytes(b"")
    assert path.parent == tmp_path


def test_safe_names_are_bounded_and_told_apart() -> None:
    long = safe_name("é" * 500)
    assert len(os.fsencode(long)) < 255 - len(".previous.csv") + 1
    assert long != safe_name("é" * 501)
    taken: list[str] = []
    for name in ("a/b", "a_b", "a\\b", "a/b/"):
        taken.append(safe_name(name, taken))
    assert taken[0] == "a_b"
    assert len(set(taken)) == 4


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..", ""])
def test_nothing_is_written_outside(name: str, tmp_path: Path) -> None:
    with pytest.raises(RootgenError, match="outside"):
        inside(tmp_path, name)


@pytest.mark.parametrize("length", [245, 249, 255])
def test_names_as_long_as_they_may_be(length: int, tmp_path: Path) -> None:
    for name in ("x" * length, "ä" * (length // 2)):
        write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"


def test_a_pipe_is_read_where_that_is_asked_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RootgenError, match="cannot read: Is a pipe"):
        read_bytes(tmp_path / "pipe")

    def write() -> None:
        with (tmp_path / "pipe").open("wb") as file:
            file.write(b"a" * 100_000)
            file.flush()
            time.sleep(0.2)
            file.write(b"b")

    writer = threading.Thread(target=write)
    writer.start()
    assert read_bytes(tmp_path / "pipe", pipes=True) == b"a" * 100_000 + b"b"
    writer.join()


def test_a_pipe_that_nobody_writes_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootgen.files.PIPE_WAIT_S", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RootgenError, match="a pipe that nobody writes to"):
        read_bytes(tmp_path / "pipe", pipes=True)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as held:
        held.bind("socket")
        with pytest.raises(RootgenError, match=r"socket: cannot read: "):
            read_bytes("socket", pipes=True)
        with pytest.raises(RootgenError, match="is a socket or a device, and is not replaced"):
            write_text("socket", "x")
    with pytest.raises(RootgenError, match="cannot read: Is a device"):
        read_bytes("/dev/zero")
    with pytest.raises(RootgenError, match="too large"):
        read_bytes("/dev/zero", most=2**22, pipes=True)


def test_large_files_are_told_before_they_are_read(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(RootgenError, match=r"4 TiB are too large for such a file \(at most 2048 MiB\)"):
        read_bytes(tmp_path / "a")


KILLED = """
import sys, time
from rootgen import scratch
from rootgen.files import replacing
held = scratch.Folder("rootgen-test-", place=__import__("pathlib").Path(sys.argv[1]).parent)
with replacing(sys.argv[1]) as beside:
    beside.write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rootgen.scratch.SETTLED_S", 0)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.readline()
        write_bytes(tmp_path / "a", b"mine")
        scratch.Folder("rootgen-test-", place=tmp_path).remove()
        assert len(list(tmp_path.iterdir())) == 3, "its two folders and the file"
        run.send_signal(signal.SIGKILL)
    write_bytes(tmp_path / "a", b"mine again")
    scratch.Folder("rootgen-test-", place=tmp_path).remove()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_was_there_before_is_never_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootgen.scratch.SETTLED_S", 0)
    (tmp_path / ".a.12345678.partial/replaced").mkdir(parents=True)
    (tmp_path / ".a.b.12345678.partial").mkdir()  # what takes the place of a.b
    write_text(tmp_path / "a", "x")
    assert len(list(tmp_path.iterdir())) == 3


def test_printable() -> None:
    assert printable("conv1 ü × 3") == "conv1 ü × 3"
    assert printable("a\nb\x1b\u202e\udc80\uffff\x85") == "a\\nb\\x1b\\u202e\\udc80\\uffff\\x85"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_lock_is_held_by_one_of_many_processes_at_a_time(tmp_path: Path) -> None:
    """Pairs of processes that start together: whoever gets in finds the other gone, whoever does not is told who is."""
    for _ in range(20):
        pair = []
        for _ in range(2):
            child = os.fork()
            if child == 0:
                os._exit(_hold(tmp_path / ".lock", tmp_path / "inside"))
            pair.append(child)
        codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in pair)
        assert codes in ([0, 0], [0, 1])
        assert not (tmp_path / ".lock").exists()


def _hold(lock: Path, inside: Path) -> int:
    """0: had the lock, alone; 1: was told of another; 2: was not alone, or was told nothing."""
    try:
        with locked(lock, "the work"):
            try:
                inside.touch(exist_ok=False)
                time.sleep(0.005)
                inside.unlink()
            except FileExistsError:
                return 2
    except RootgenError as error:
        return 1 if "the work: " in str(error) and "is at work on it" in str(error) else 2
    return 0


def test_a_lock_of_a_killed_process_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on another (since 2020-01-01 00:00:00)\n")
    with locked(tmp_path / ".lock", "the work"):
        assert f"process {os.getpid()} on " in (tmp_path / ".lock").read_text()
    assert not (tmp_path / ".lock").exists()


def test_where_there_are_no_locks_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / ".lock", "the work"):
        assert "the work: no locks here (No locks available)" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("durable", [True, False])
def test_a_folder_is_on_the_disk_with_all_that_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink().name))
    with replacing(tmp_path / "new" / "set", durable=durable) as beside:
        (beside / "inner").mkdir(parents=True)
        (beside / "inner" / "x").write_text("1")
    assert synced == (["set", "x", "inner", "new", tmp_path.name] if durable else [])

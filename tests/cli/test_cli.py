"""The frame of the command line: usage, exit codes, streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from rootgen import __version__
from rootgen.cli import COMMANDS, main


def test_no_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: rootgen COMMAND" in capsys.readouterr().err


def test_help_goes_to_stdout_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"rootgen {__version__}\n"


def test_unknown_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "rootgen: no command 'trian' (did you mean 'train'?)\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert import_module(f"rootgen.cli.commands.{name}").HELP[:20] in capsys.readouterr().out.replace("\n", " ")


def test_a_reader_that_goes_away_ends_it_as_sigpipe_would() -> None:
    shell = f"{sys.executable} -m rootgen emit resnet200 | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "141"
    assert done.stderr == ""


def test_a_full_disk_is_one_line() -> None:
    shell = f"{sys.executable} -m rootgen emit nin > /dev/full"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "rootgen emit: No space left on device\n"


@pytest.mark.parametrize("words", ["--help", "--version", "emit --help"])
def test_a_full_disk_is_one_line_for_help_too(words: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m rootgen {words} > /dev/full"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith(": No space left on device\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("rootgen list >&-", 1),
        ("rootgen --version >&-", 1),
        ("rootgen cost --help >&-", 1),
        ("rootgen emit nin -o /dev/null >&- 2>&-", 0),
        ("rootgen transform - --root 2 <&-", 1),
        ("rootgen cost absent 2>&-", 1),
    ],
)
def test_closed_streams_break_nothing(shell: str, code: int) -> None:
    shell = shell.replace("rootgen", f"{sys.executable} -m rootgen", 1)
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_prototxt_is_utf_8_whatever_the_locale_says() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "rootgen", "emit", "nin", "--name", "Größe"]
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert 'name: "Größe"' in done.stdout.decode("utf-8")


def test_a_file_name_that_is_no_utf_8_comes_out_as_it_is(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/n\xff.prototxt"
    rootgen = [sys.executable, "-m", "rootgen"]
    subprocess.run([*rootgen, "emit", "nin", "--phase", "deploy", "-o", name], check=True)
    done = subprocess.run([*rootgen, "cost", name, "--format", "csv"], capture_output=True, check=True)
    assert name in done.stdout


def test_a_user_without_a_home_can_emit() -> None:
    script = "import pathlib, sys\n"
    script += "def gone(self): raise RuntimeError('Could not determine home directory.')\n"
    script += "pathlib.Path.expanduser = gone\nfrom rootgen.cli import main\nsys.exit(main(['emit', 'nin']))"
    environment = {name: value for name, value in os.environ.items() if name not in ("ROOTGEN_CACHE", "XDG_CACHE_HOME")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nets_come_from_pipes_too() -> None:
    rootgen = f"{sys.executable} -m rootgen"
    shell = f"{rootgen} emit nin --phase deploy | {rootgen} cost /dev/stdin --format csv | head -3 | tail -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert "conv1a" in done.stdout, done.stderr


def test_a_command_called_from_a_program_leaves_its_signals_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    def own(number: int, frame: object) -> None:
        """What a program does on SIGTERM."""

    before = signal.signal(signal.SIGTERM, own)
    try:
        assert main(["emit", "nin"]) == 0
        assert signal.getsignal(signal.SIGTERM) is own
        assert main(["emit", "nun"]) == 2
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)

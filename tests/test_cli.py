"""The frame of the command line: usage, exit codes, streams."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

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
    assert import_module(f"rootgen.cli.{name}").HELP[:20] in capsys.readouterr().out.replace("\n", " ")


def test_a_reader_that_goes_away_is_no_error() -> None:
    shell = f"{sys.executable} -m rootgen emit resnet50 | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_a_full_disk_is_one_line() -> None:
    shell = f"{sys.executable} -m rootgen emit nin > /dev/full"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "rootgen emit: No space left on device\n"


def test_nets_come_from_pipes_too() -> None:
    rootgen = f"{sys.executable} -m rootgen"
    shell = f"{rootgen} emit nin --phase deploy | {rootgen} cost /dev/stdin --format csv | head -3 | tail -1"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert "conv1a" in done.stdout, done.stderr

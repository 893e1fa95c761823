"""rootgen completion: the scripts in the shells that read them."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path

import pytest

from rootgen.cli import COMMANDS, main
from rootgen.cli.commands import completion

BASH = """
source {script}
COMP_WORDS=({line}{last}) COMP_CWORD=$(({words} - 1)) COMP_LINE='{line}' COMP_POINT={length}
_shtab_rootgen rootgen "${{COMP_WORDS[-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell $'PROMPT= ; fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D; LISTMAX=0'
zpty -w shell $'zstyle ":completion:*" list-prompt ""; print READY'
zpty -r -m shell seen '*READY*READY*'
zpty -w -n shell $'{line}\t\t'
zpty -r -m shell seen '*{last}*'; print -r -- $seen
zpty -d shell
"""
CASES = [  # what is typed, some of what completes it, what does not
    ("rootgen tra", {"transform", "train"}, {"emit"}),
    ("rootgen emit re", {"resnet50", "resnet101", "resnet152", "resnet200"}, {"nin", "README"}),
    ("rootgen emit nin --t", {"--tree", "--test-batch-size"}, {"--root"}),
    ("rootgen cost --format ", {"table", "csv", "json", "markdown"}, {"text"}),
    ("rootgen cost ne", {"net.prototxt"}, {"other"}),
    ("rootgen caffe ", {"build", "check", "env"}, {"emit"}),
    ("rootgen help cor", {"correlation"}, {"cost"}),
]


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", shell]) == 0
    (folder / "script").write_text(capsys.readouterr().out)
    for name in ("net.prototxt", "other", "README"):
        (folder / name).touch()
    return folder / "script"


def typed(shell: str, words: list[str], folder: Path) -> str:
    """What the shell prints."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, *words], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("line", "wanted", "others"), CASES)
def test_bash(
    line: str, wanted: set[str], others: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = "''" if line.endswith(" ") else ""
    words = len(line.split()) + bool(last)
    code = BASH.format(script=script("bash", tmp_path, capsys), line=line, last=last, words=words, length=len(line))
    found = set(typed("bash", ["--norc", "-c", code], tmp_path).split())
    assert wanted <= found
    assert not others & found


@pytest.mark.parametrize(("line", "wanted", "others"), CASES)
def test_fish(
    line: str, wanted: set[str], others: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = f"source {script('fish', tmp_path, capsys)}; complete -C '{line}'"
    lines = typed("fish", ["--no-config", "-c", code], tmp_path).splitlines()
    found = {line.split("\t")[0] for line in lines}
    assert wanted <= found
    assert not others & found


@pytest.mark.parametrize(("line", "wanted", "others"), [CASES[1], CASES[3]])
def test_zsh(line: str, wanted: set[str], others: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("zsh", tmp_path, capsys).rename(tmp_path / "_rootgen")
    code = ZSH.format(folder=tmp_path, line=line, last=max(wanted))
    shown = typed("zsh", ["-f", "-c", code], tmp_path)
    assert all(word in shown for word in wanted), shown
    assert not any(f" {word} " in shown for word in others), shown


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_verb_is_in_every_script(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, tmp_path, capsys).read_text()
    assert all(name in text for name in (*COMMANDS, "googlenet", "fashion-mnist"))


def test_every_name_of_a_file_or_folder_is_known() -> None:
    """A metavar that is written nowhere in FILES and FOLDERS is a number, a list or a name."""
    plain = {
        "N",
        "K",
        "NAME",
        "CxHxW",
        "BLOB=AxB...",
        "LAYER=N",
        "[LAYER=]SHAPES",
        "PIXELS",
        "RATE",
        "HxW",
        "cpu|gpu[:N]",
        "A-B,...",
        "A-B",
        "KIND,...",
        "ROW,...",
        "N|N..M|N,...",
        "M",
    }
    plain |= {"E", "table|csv|json|markdown", "build|check|env", "FAMILY|LOG", "ARCH", "SHARE"}

    def metavars(parser: argparse.ArgumentParser) -> set[str]:
        found = set()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= set().union(*map(metavars, action.choices.values()))
            found.add(action.metavar)
        return found

    used = {word for word in metavars(completion.everything()) if word is not None}
    assert used - plain == {*completion.FILES, *completion.FOLDERS} & used
    assert {*completion.FILES, *completion.FOLDERS} <= used

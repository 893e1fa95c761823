"""rootgen completion: a script that completes rootgen's words in a shell."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from importlib import import_module

SHELLS = ("bash", "zsh", "fish")
HELP = "Print a script that completes verbs, options, architectures, choices and files in bash, zsh or fish."
FILES = (
    *("FILE", "FILE|VALUES", "FILE.onnx", "NET", "TRAIN_VAL", "A", "B", "SOLVER", "MODEL", "MODEL.caffemodel"),
    *("IMAGE", "CSV", "DIR|FILE", "F", "F[,F...]", "PATH"),
)
FOLDERS = ("DIR", "LMDB", "DIR|LMDB", "NAME|DIR")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        'bash: eval "$(rootgen completion bash)", in ~/.bashrc\n'
        "zsh:  rootgen completion zsh > _rootgen, in a folder of $fpath\n"
        "fish: rootgen completion fish > ~/.config/fish/completions/rootgen.fish"
    )
    parser.add_argument("shell", choices=SHELLS, help="bash, zsh or fish")


def run(args: argparse.Namespace) -> None:
    import shtab

    from rootgen.cli.output import write_out

    write_out(shtab.complete(everything(), args.shell).rstrip("\n") + "\n", None)


def everything() -> argparse.ArgumentParser:
    """One parser of all verbs, whose arguments know what completes them."""
    from rootgen.cli import COMMANDS
    from rootgen.cli.parser import Parser

    parser = Parser(prog="rootgen")
    parser.add_argument("-V", "--version", action="store_true", help="print the version")
    verbs = parser.add_subparsers()
    for name, text in COMMANDS.items():
        command = import_module(f"rootgen.cli.commands.{name}")
        below = verbs.add_parser(name, help=text, description=command.HELP)
        command.add_arguments(below)
        _mark(below)
    verbs.add_parser("help", help="what a verb does, and its options").add_argument("verb", choices=tuple(COMMANDS))
    return parser


def _mark(parser: argparse.ArgumentParser) -> None:
    """Say of each argument whether it is a file, a folder, or one of some names."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _mark(below)
        elif action.metavar in FILES or action.metavar in FOLDERS:
            action.complete = shtab.FILE if action.metavar in FILES else shtab.DIRECTORY  # type: ignore[attr-defined]
        elif not action.option_strings and action.choices is None:
            action.choices = tuple(_names(action.dest)) or None


def _names(argument: str) -> Iterable[str]:
    """The names that a verb takes in place of an argument."""
    from rootgen.datasets import NAMES
    from rootgen.generator.architectures import architectures
    from rootgen.paper.plot import families

    return {"arch": architectures(), "what": families(), "name": NAMES}.get(argument, ())

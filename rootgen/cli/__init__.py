"""The `rootgen` command: the only part of the package that prints or exits.

Each command is a module of commands/ with `HELP`, `add_arguments(parser)` and `run(args)`, imported
only when it is called, so that a light command stays light. What a machine may read goes to stdout,
everything else to stderr. Exit code 0: done; 1: it failed; 2: wrong usage; 130: interrupted.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from rootgen import __version__
from rootgen.errors import RootgenError, did_you_mean

COMMANDS = {
    "list": "architectures of the paper, their rows and their groups",
    "emit": "write a network as Caffe prototxt, with filter groups",
    "solver": "write the solver.prototxt that goes with a network",
    "transform": "give any network filter groups, leaving the rest of its text alone",
    "cost": "count parameters and multiply-adds of a prototxt or caffemodel",
    "diff": "compare two networks layer by layer",
    "tables": "count every FLOPs and params cell of the paper's tables",
    "data": "make LMDB and mean of Fashion-MNIST, CIFAR-10 or an image folder",
    "train": "train a solver.prototxt, with PyTorch or pycaffe",
    "export": "write a network with its weights as ONNX, checked against our own engine",
    "time": "time networks layer by layer",
    "correlation": "inter-layer filter correlation of a trained model",
    "draw": "draw a network as a picture that shows its groups",
    "plot": "the paper's figures, reported and measured",
    "caffe": "build, check or use a patched Caffe",
    "reproduce": "emit, data, train, correlate and plot in one command",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that prints wrong usage as one line and exits with 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        sys.stdout.flush()
        super().exit(status, message)

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file or sys.stderr)  # argparse's own hides that it could not be written


class UsageError(RootgenError):
    """Options that contradict each other, or lack one: exit code 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS:
        return run_command(words[0], words[1:])
    return _exit_code("rootgen", lambda: _general(words))


def run_command(name: str, words: Sequence[str], prog: str | None = None) -> int:
    """Parse `words` for the command `name` and run it; its exit code."""
    prog = prog or f"rootgen {name}"

    def call() -> int:
        command = import_module(f"rootgen.cli.commands.{name}")
        parser = Parser(prog=prog, description=command.HELP)
        command.add_arguments(parser)
        args = parser.parse_args(words)
        _log_to_stderr()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # a plain kill cleans up as Ctrl-C does
        return int(command.run(args) or 0)

    return _exit_code(prog, call)


def _general(words: Sequence[str]) -> int:
    """What `rootgen` does without a command: help, version, or wrong usage."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage(), end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"rootgen {__version__}")
        return 0
    raise UsageError(f"no command '{words[0]}'", hint=did_you_mean(words[0], COMMANDS))


def _exit_code(prog: str, call: Callable[[], int]) -> int:
    """Exit code of `call`; every expected failure becomes one line on stderr."""
    _settle_streams()
    try:
        code = call()
        sys.stdout.flush()
    except RootgenError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader went away, as `| head` does
        _drop_stdout()
        return 0
    except OSError as error:
        if error.filename is None:  # stdout itself
            _drop_stdout()
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"{prog}: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    return code


def refuse_idle(args: argparse.Namespace, names: Sequence[str], why: str, hint: str | None = None) -> None:
    """Wrong usage where one of the options `names` was given, all of which do nothing here: "--NAME `why`"."""
    for name in names:
        value = getattr(args, name)
        if value is not None and value is not False:  # argparse's defaults
            raise UsageError(f"--{name.replace('_', '-')} {why}", hint=hint)


def write_out(text: str, path: str | None) -> None:
    """Put `text` on stdout, or whole into the file `path` (`-` is stdout)."""
    if path in (None, "-", "/dev/stdout"):  # which may be a file that is appended to
        sys.stdout.write(text)
    else:
        from rootgen.files import write_text

        write_text(str(path), text)


def _settle_streams() -> None:
    """Prototxt is UTF-8 whatever the locale says; bytes of a file's name come out as they are; closed streams drop."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this, as a daemon may do
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
        elif name == "stdout" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def _drop_stdout() -> None:
    """Send what stdout still holds nowhere, so that the interpreter's own flush at exit does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage() -> str:
    width = max(map(len, COMMANDS), default=0)
    lines = [f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items()]
    return "usage: rootgen COMMAND ...   (rootgen COMMAND --help tells more)\n\n" + "\n".join(lines) + "\n"


def _log_to_stderr() -> None:
    """Show what the library logs as `rootgen: ...` lines on stderr."""
    logger = logging.getLogger("rootgen")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("rootgen: %(message)s"))
    logger.handlers[:] = [handler]  # anew at each call: stderr may be another one by now
    logger.setLevel(logging.INFO)

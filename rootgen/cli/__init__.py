"""The `rootgen` command: the only part of the package that prints or exits.

Each command is a module of commands/ with `HELP`, `add_arguments(parser)` and `run(args)`, imported
only when it is called, so that a light command stays light. What a machine may read goes to stdout,
everything else to stderr. Exit code 0: done; 1: it failed; 2: wrong usage; 130: interrupted.
"""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module

from rootgen import __version__
from rootgen.cli.output import write_out as write_out
from rootgen.cli.parser import Parser
from rootgen.errors import RootgenError, UnknownNameError, did_you_mean, printable

COMMANDS = {
    "list": "architectures of the paper, their rows and their groups",
    "emit": "write a network as Caffe prototxt, with filter groups",
    "solver": "write the solver.prototxt that goes with a network",
    "transform": "give any network filter groups, leaving the rest of its text alone",
    "cost": "count parameters and multiply-adds of a prototxt or caffemodel",
    "diff": "compare two networks layer by layer",
    "tables": "count every FLOPs and params cell of the paper's tables",
    "data": "make LMDBs of Fashion-MNIST, CIFAR-10, ImageNet or an image folder",
    "train": "train a solver.prototxt, with PyTorch or pycaffe",
    "export": "write a network with its weights as ONNX, checked against our own engine",
    "time": "time networks layer by layer",
    "test": "score a trained model: loss, accuracy, top-5",
    "classify": "the likeliest classes of images",
    "correlation": "inter-layer filter correlation of a trained model",
    "grid": "correlations of several nets beside one another, as in Fig. 6",
    "draw": "draw a network as a picture that shows its groups",
    "plot": "the paper's figures, reported and measured; curves of trainings",
    "upgrade": "nets, solvers and models of old Caffes in today's form",
    "deploy": "the deploy net of any training net",
    "advise": "how many groups each layer of a trained net can bear",
    "fold": "fold BatchNorm, Scale and the like into the layers beside them",
    "caffe": "build, check or use a patched Caffe",
    "reproduce": "emit, data, train, correlate and plot in one command",
    "report": "one page of what reproduce left: the paper beside what was measured",
    "completion": "a script that completes rootgen's words in bash, zsh or fish",
}


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
        if threading.current_thread() is not threading.main_thread():
            return int(command.run(args) or 0)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a plain kill cleans up as Ctrl-C does
        try:
            return int(command.run(args) or 0)
        finally:
            signal.signal(signal.SIGTERM, before)

    return _exit_code(prog, call)


def _general(words: Sequence[str]) -> int:
    """What `rootgen` does without a command: help, version, or wrong usage."""
    if words[:1] == ["help"] and len(words) > 1 and not words[1].startswith("-"):
        if words[1] in COMMANDS:
            return run_command(words[1], [*words[2:], "--help"])
        raise UsageError(f"no command '{words[1]}'", hint=did_you_mean(words[1], COMMANDS))
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
        return 2 if isinstance(error, (UsageError, UnknownNameError)) else 1
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader went away, as `| head` does: quietly, as SIGPIPE ends other programs
        _drop_stdout()
        return 128 + signal.SIGPIPE
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


def _settle_streams() -> None:
    """Prototxt is UTF-8 whatever the locale says; bytes of a file's name come out as they are.

    Where whoever started this closed a stream, as a daemon may do, no file opened later gets its number; what goes
    to such a stdout is an error, and what goes to such a stderr is dropped.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            kind = _Closed if name == "stdout" else io.TextIOWrapper
            setattr(sys, name, kind(open(os.devnull, f"{mode}b"), encoding="utf-8"))  # noqa: PTH123, SIM115
        elif name == "stdout" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


class _Closed(io.TextIOWrapper):
    """A stdout that nobody opened."""

    def write(self, text: str) -> int:
        if text:
            raise OSError(errno.EBADF, "stdout is closed")
        return 0


def _drop_stdout() -> None:
    """Send what stdout still holds nowhere, so that the interpreter's own flush at exit does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage() -> str:
    width = max(map(len, COMMANDS), default=0)
    lines = [f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items()]
    return "usage: rootgen COMMAND ...   (rootgen help COMMAND tells more)\n\n" + "\n".join(lines) + "\n"


class _Lines(logging.Handler):
    """Log lines on the stderr of the moment, above the progress bars that may stand there."""

    def emit(self, record: logging.LogRecord) -> None:
        from rootgen.cli.progress_bars import say

        say(self.format(record))


class _Once(logging.Filter):
    """Drops a record that says `once` and was shown before."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = not getattr(record, "once", False) or text not in self.shown
        self.shown.add(text)
        return new


def _log_to_stderr() -> None:
    """Show what the library logs as `rootgen: ...` lines on stderr."""
    logger = logging.getLogger("rootgen")
    handler = _Lines()
    handler.setFormatter(_OneLine("rootgen: %(message)s"))
    handler.addFilter(_Once())
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its caches and fonts are not the user's concern
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of large images, which we refuse, and of damaged EXIF data


class _OneLine(logging.Formatter):
    """A line per record, whatever the names in it hold."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

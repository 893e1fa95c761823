"""The argument parser of every verb: wrong usage is one line, with the option or choice that was likely meant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from rootgen.errors import nearest


class Parser(argparse.ArgumentParser):
    """An argument parser that prints wrong usage as one line and exits with 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        sys.stdout.flush()
        super().exit(status, message)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's, but an option that is not known is told before what else it makes wrong."""
        words = list(sys.argv[1:] if args is None else args)
        known = set(options(self))
        for word in words[: words.index("--")] if "--" in words else words:
            name = word.partition("=")[0]
            if len(name) > 2 and name.startswith("--") and not any(option.startswith(name) for option in known):
                self.error(f"no option '{name}'{_meant(name, options(self, hidden=False))}")
        parsed, left = self.parse_known_args(words, namespace)
        if left:
            self.error(f"no option '{left[0]}'" if left[0].startswith("-") else f"'{left[0]}' is too much")
        return parsed

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            told = _meant(str(value), choices) or f", choose from {', '.join(choices)}"
            raise argparse.ArgumentError(action, f"no choice '{value}'{told}")

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file or sys.stderr)  # argparse's own hides that it could not be written


def options(parser: argparse.ArgumentParser, *, hidden: bool = True) -> Iterator[str]:
    """The long options of a parser and of the parsers below it; without `hidden`, those that its help shows."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from options(below, hidden=hidden)
        elif hidden or action.help != argparse.SUPPRESS:
            yield from (option for option in action.option_strings if option.startswith("--"))


def _meant(typed: str, known: Sequence[str] | Iterator[str]) -> str:
    likely = nearest(typed, set(known))
    return f", did you mean '{likely}'?" if likely else ""

"""The commands of a build: run one by one, how far they are told, logged, their telling lines shown where one fails."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rootgen.errors import RootgenError
from rootgen.progress import Report, silent

log = logging.getLogger("rootgen")

TELLING = re.compile(
    r"\berror\b[:\s]|undefined reference|CMake Error|No space left|Killed|internal compiler error|cannot find -l"
    r"|\[  FAILED  \]|Check failed|^(FAIL|ERROR):",
    re.IGNORECASE,
)
STEP_OF = re.compile(r"^\[\s*(\d+)(?:/(\d+)|%)\]")  # Ninja's [3/29], Make's [ 41%]


class Commands:
    """Runs commands one after another into one log file."""

    def __init__(self, log_file: Path, report: Report = silent) -> None:
        self.log_file, self.report = log_file, report
        log_file.write_bytes(b"")

    def run(
        self,
        command: Sequence[str],
        doing: str,
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        steps: tuple[re.Pattern[str], int] | None = None,
    ) -> None:
        """Run `command`; RootgenError with the log's first telling line if it fails.

        `steps`: a pattern that matches once per step and the number of steps, for a command that prints no [3/29].
        """
        log.info("%s", doing)
        begin = self.log_file.stat().st_size
        with (
            self.log_file.open("ab", buffering=0) as sink,
            subprocess.Popen(
                command, cwd=cwd, env={**os.environ, **(environment or {})},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            ) as child,
        ):  # fmt: skip
            done = 0
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    sink.write(line)
                    text = line.decode(errors="replace")
                    if steps and steps[0].match(text):
                        done += 1
                        self.report(doing, done, steps[1])
                    elif found := STEP_OF.match(text):
                        self.report(doing, int(found[1]), int(found[2] or 100))
            except BaseException:  # Ctrl-C, or no room for the log: nothing goes on behind our back
                _end(child)
                raise
        if child.returncode:
            self._fail(doing, begin, child.returncode)

    def _fail(self, doing: str, begin: int, code: int) -> None:
        """Show the telling lines of the log since `begin`, and raise."""
        lines = self.log_file.read_bytes()[begin:].decode(errors="replace").splitlines()
        telling = first_telling(lines) or lines[-5:]
        for line in telling[1:8]:
            log.error("  %s", line)
        raise RootgenError(
            f"{doing} failed: {telling[0].strip() if telling else f'exit code {code}'}",
            hint=f"the whole log is {self.log_file}",
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    """Stop `child` and all it started, and wait until they are gone.

    CMake does not pass signals on. Ninja and Make do, to compilers in groups of their own, and wait for them; the
    output ends with the last of them.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    assert child.stdout is not None
    for _ in child.stdout:
        pass


def first_telling(lines: Iterable[str]) -> list[str]:
    """The lines that say what went wrong, each once; Make's and Ninja's own summaries left out."""
    found = [line.rstrip() for line in lines if TELLING.search(line) and not line.startswith(("make", "ninja:"))]
    return list(dict.fromkeys(found))

"""benchmarks/evidence/together.py: a stop that comes to one process ends all, each in its own time."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "evidence"
# Two processes that take a while to end, as a training does with its iteration.
CHILD = """
import pathlib, sys, time
pathlib.Path(sys.argv[1] + ".begun").touch()
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(0.5)
    pathlib.Path(sys.argv[1] + ".saved").touch()
    sys.exit(130)
"""
PARENT = """
import os, sys
sys.path.insert(0, sys.argv[1])
import together
with together.one_stop():
    words = [[sys.executable, "-c", sys.argv[2], sys.argv[3] + str(n)] for n in range(2)]
    print(together.wait([together.start(each, os.environ) for each in words], lambda alive: sys.argv[4] == "wait"))
"""


@pytest.mark.parametrize("background", [False, True], ids=["terminal", "by a shell's &"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, None])
def test_a_stop_ends_all(tmp_path: Path, how: signal.Signals | None, background: bool) -> None:
    if not SCRIPTS.is_dir():
        pytest.skip("no benchmarks folder beside the tests")
    words = [sys.executable, "-c", PARENT, SCRIPTS, CHILD, tmp_path / "child", "wait" if how else "kill"]
    inherited = signal.signal(signal.SIGINT, signal.SIG_IGN if background else signal.default_int_handler)
    try:
        parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, inherited)
    with parent:
        if how:
            while len(list(tmp_path.glob("*.begun"))) < 2:
                assert parent.poll() is None
                time.sleep(0.05)
            parent.send_signal(how)
        said, _ = parent.communicate(timeout=50)
    assert said == ("[130, 130]\n" if how else "[-9, -9]\n")
    assert len(list(tmp_path.glob("*.saved"))) == (2 if how else 0)

"""How a run is asked to stop: minutes that are over, also where Python drops what is raised."""

from __future__ import annotations

import signal
import time

import pytest

from rootgen.engine import stop as stopping
from rootgen.engine.stop import Stop, limit


class Finalized:
    """Its finalizer takes a while; what is raised there is dropped."""

    def __del__(self) -> None:
        time.sleep(0.4)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_minutes_end_what_a_finalizer_kept_from_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stopping, "AGAIN_S", 0.2)
    stop = Stop()
    stop.at_once = True
    with pytest.raises(KeyboardInterrupt), limit(0.1 / 60, stop):
        thing = Finalized()
        del thing
        time.sleep(5)
        pytest.fail("went on")
    assert len(caplog.messages) == 1
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_minutes_do_not_break_off_what_is_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "AGAIN_S", 0.1)
    stop = Stop()
    with limit(0.1 / 60, stop):
        stop(signal.SIGINT)  # a user's, before
        time.sleep(0.5)
    assert stop.signal == signal.SIGINT

"""When a run is handed on: before the next step, where that might not fit into what this process has."""

from collections.abc import Callable

import pytest

from goagents.engine.execution.pace import HandOffDue, Pace
from goagents.testing.clocks import VirtualClock


def paced(clock: VirtualClock, seconds: float = 300.0, left: float = 3600.0, wanted: Callable[[], bool] | None = None):
    return Pace(clock, seconds, left, False, wanted or (lambda: False))


def is_due(pace: Pace, needed: float = 0.0) -> bool:
    try:
        pace.check(needed)
    except HandOffDue:
        return True
    return False


@pytest.mark.parametrize(
    ("spent", "needed", "due"),
    [
        (10, 0, False),
        (294, 0, False),
        (296, 0, True),  # less than the margin is left
        (264, 30, False),
        (266, 30, True),  # a tool of 30 s would be cut by the process's end
        (140, 300, False),
        (151, 300, True),  # half of a process's time has to do
    ],
)
async def test_the_next_step_has_to_fit(spent: float, needed: float, due: bool):
    clock = VirtualClock()
    pace = paced(clock)
    pace.step_done()
    await clock.advance(spent)
    assert is_due(pace, needed) == due


async def test_as_long_as_the_longest_step_before():
    clock = VirtualClock()
    pace = paced(clock)
    await clock.advance(80)
    pace.step_done()
    await clock.advance(130)
    assert not is_due(pace)
    await clock.advance(11)
    assert is_due(pace)


async def test_never_before_a_step_was_taken_unless_it_is_wished():
    clock, wishes = VirtualClock(), [False]
    pace = paced(clock, wanted=lambda: wishes[0])
    await clock.advance(299)
    assert not is_due(pace, 60)
    wishes[0] = True
    assert is_due(pace)


async def test_never_where_the_run_itself_is_out_of_time():
    clock = VirtualClock()
    pace = paced(clock, seconds=300, left=200)
    pace.step_done()
    await clock.advance(199)
    assert pace.is_runs_own
    assert not is_due(pace, 60)

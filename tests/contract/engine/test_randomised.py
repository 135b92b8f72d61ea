"""Durable runs under whatever may happen to them."""

import asyncio
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from tests.support.simulation.acts import SCHEDULES, WEATHERS, Act
from tests.support.simulation.times import VirtualTimeLoop
from tests.support.simulation.verdict import verdict
from tests.support.simulation.workers import Weather
from tests.support.simulation.world import World

EXAMPLES = int(os.environ.get("GOAGENTS_RANDOMISED_EXAMPLES", "60"))


async def _happen(world: World, schedule: list[Act]) -> None:
    await world.begin()
    for act in schedule:
        world.ledger.note(f"    {act}")
        act.do(world)
        await asyncio.sleep(act.pause)
    await world.heal()


def simulate(seed: int, weather: Weather, background: bool, schedule: list[Act]) -> tuple[World, list[str]]:
    loop = VirtualTimeLoop()
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=lambda: loop) as runner:
        world = World(Path(folder), loop, seed, weather, background=background)
        try:
            runner.run(_happen(world, schedule))
            return world, verdict(world)
        finally:
            runner.run(world.end())
            world.ledger.close()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="GOAGENTS_RANDOMISED_EXAMPLES" not in os.environ,  # in the suite the same stories each time
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
@given(st.integers(0, 2**32 - 1), WEATHERS, st.booleans(), SCHEDULES)
def test_no_run_is_lost_and_nothing_happens_twice(seed: int, weather: Weather, background: bool, schedule: list[Act]):
    """Three simulated processes, one session and others, few slots; processes die, stores fail, clocks jump.

    The verdict holds every invariant of docs/durable-runs.md against what the store and the followers saw. For more
    stories set GOAGENTS_RANDOMISED_EXAMPLES.
    """
    world, wrong = simulate(seed, weather, background, schedule)
    for line in world.ledger.history:
        note(line)
    assert not wrong, "\n".join(wrong)

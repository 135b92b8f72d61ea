"""Durable runs under whatever may happen to them: several processes on one store, and stories told by dice.

A story is a list of acts (`tests/support/simulation/acts.py`) that hypothesis draws, shrinks and prints, and a seed for
all that the acts leave open. It is played in an event loop whose time jumps, not by a RuleBasedStateMachine: a machine
acts between awaits alone, where nothing is under way, and what breaks durable runs happens within them. All of asyncio
is in that loop's time, also `asyncio.timeout`, which a clock handed to the engine cannot reach; and the store, SQLite
with its thread, answers while the loop stands still. So the same story is the same history, to the last commit.

What must hold at any moment is checked at the store, as each commit is applied (`ledger.py`); at the models and tools,
as each is called (`models.py`, `agents.py`); and once everything has come to rest (`followers.py`, `verdict.py`).

In the suite the stories are the same each time. GOAGENTS_RANDOMISED_EXAMPLES=5000 tells that many others. A story that
fails is printed with its acts, and with what happened, commit by commit.
"""

import asyncio
import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from tests.support.simulation.acts import SCHEDULES, WEATHERS, Act
from tests.support.simulation.times import VirtualTimeLoop
from tests.support.simulation.verdict import verdict
from tests.support.simulation.workers import Weather
from tests.support.simulation.world import World

from goagents.testing.kill_points import Boundary

IN_SUITE = 80
EXAMPLES = int(os.environ.get("GOAGENTS_RANDOMISED_EXAMPLES", IN_SUITE))


async def _happen(world: World, schedule: list[Act]) -> None:
    await world.begin()
    for act in schedule:
        world.ledger.note(f"    {act}")
        act.do(world)
        await asyncio.sleep(act.pause)
    await world.heal()


def simulate(seed: int, weather: Weather, background: bool, schedule: list[Act]) -> tuple[World, list[str]]:
    """Return the world after all this, at rest, and what is wrong with it."""
    loop = VirtualTimeLoop()
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=lambda: loop) as runner:
        world = World(Path(folder), loop, seed, weather, background=background)
        try:
            runner.run(_happen(world, schedule))
            return world, verdict(world)
        finally:
            runner.run(world.end())
            world.ledger.close()


def test_no_run_is_lost_and_nothing_happens_twice():
    """Three processes at a time, a few sessions, fewer slots; processes die, stores fail, clocks jump."""
    met: Counter[Boundary] = Counter()
    attempts: Counter[int] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="GOAGENTS_RANDOMISED_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.integers(0, 2**32 - 1), WEATHERS, st.booleans(), SCHEDULES)
    def story(seed: int, weather: Weather, background: bool, schedule: list[Act]) -> None:
        world, wrong = simulate(seed, weather, background, schedule)
        met.update(world.ledger.met)
        attempts.update(run["attempt"] for run in world.ledger.runs().values())
        for line in world.ledger.history:
            note(line)
        assert not wrong, "\n".join(wrong)

    story()
    if EXAMPLES >= IN_SUITE:  # stories in which nothing happens prove nothing
        assert set(Boundary) - met.keys() <= {Boundary.EVENTS}
        assert sum(count for attempt, count in attempts.items() if attempt > 2) > EXAMPLES / 4

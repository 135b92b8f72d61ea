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
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from tests.support.simulation.acts import SCHEDULES, WEATHERS, Act
from tests.support.simulation.times import VirtualTimeLoop
from tests.support.simulation.verdict import verdict
from tests.support.simulation.workers import Weather
from tests.support.simulation.world import World

from goagents.testing.kill_points import Boundary

IN_SUITE = 80
MOST_ROUNDS = 4
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


def _tell(number: int, check: Callable[[int, Weather, bool, list[Act]], None]) -> None:
    """Tell EXAMPLES stories, others for each number."""
    told = given(st.integers(0, 2**32 - 1), WEATHERS, st.booleans(), SCHEDULES)(check)
    told = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )(told)
    if "GOAGENTS_RANDOMISED_EXAMPLES" not in os.environ:
        told = hypothesis_seed(number)(told)
    told()


def test_no_run_is_lost_and_nothing_happens_twice():
    """Three processes at a time, a few sessions, fewer slots; processes die, stores fail, clocks jump."""
    met: Counter[Boundary] = Counter()
    attempts: Counter[int] = Counter()

    def check(seed: int, weather: Weather, background: bool, schedule: list[Act]) -> None:
        world, wrong = simulate(seed, weather, background, schedule)
        met.update(world.ledger.met)
        attempts.update(run["attempt"] for run in world.ledger.runs().values())
        for line in world.ledger.history:
            note(line)
        assert not wrong, "\n".join(wrong)

    def missing() -> set[Boundary]:
        """Stories in which nothing happens prove nothing."""
        return set(Boundary) - met.keys() - {Boundary.EVENTS}

    # Hypothesis takes what it draws from the constants of our code, too: other code, other stories, and now and then
    # eighty of them leave one boundary out.
    for number in range(MOST_ROUNDS):
        if number == 0 or missing():
            _tell(number, check)
    if EXAMPLES >= IN_SUITE:
        assert not missing()
        assert sum(count for attempt, count in attempts.items() if attempt > 2) > EXAMPLES / 4

"""A process dies where a run changes hands: into the queue, to a worker, to a person and back, or to the next run.

As in test_kills.py: real processes, SIGKILL, and another process that finds what is left.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from tests.support.counting_tools import CountingTools
from tests.support.kill_scene import INTERNAL, Case, Order, Scene
from tests.support.processes import Killable, Site, until

from goagents.testing.kill_points import KillPoint as P

LOOK = frozenset({"look"})


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kills")
    with CountingTools() as tools, Scene.of(Site(folder, f"sqlite:///{folder}/state.db", tools)) as made:
        yield made


def tell(process: Killable, method: str, path: str, body: Any = None, **options: Any) -> None:
    """Send a request to a process that dies before or after it has answered."""
    with suppress(httpx2.TransportError):
        assert process.ask(method, path, body, **options).status_code < 300


@pytest.mark.parametrize(
    "point", [P.BEFORE_ADMISSION, P.BEFORE_ENQUEUE, P.AFTER_ENQUEUE, P.BEFORE_TAKEOVER, P.AFTER_TAKEOVER]
)
def test_a_run_in_the_background(scene: Scene, point: P):
    order, victim = scene.order(), scene.site.victim(point)
    tell(victim, "POST", "/api/v1/agents/orders.clerk/runs", order.body, headers=order.key)
    scene.died(victim, point)
    again = scene.survivor.ask("POST", "/api/v1/agents/orders.clerk/runs", order.body, headers=order.key)
    assert again.status_code == 202, again.text
    (run,) = scene.sweep_until(order.session, "succeeded")
    assert run["id"] == again.json()["id"]
    scene.check(Case(point), order)


@pytest.mark.parametrize("point", [P.BEFORE_HAND_OFF, P.AFTER_HAND_OFF, P.BEFORE_ENQUEUE, P.AFTER_ENQUEUE])
def test_a_run_that_outlasts_its_request(scene: Scene, point: P):
    """Its first step takes nearly all the time there is, so the process hands it on; or would have."""
    order, victim = scene.order(), scene.site.victim(point)
    victim.has_for_a_request(1.0)
    scene.site.tools.delays = {"look": 0.85}
    scene.send(Case(point), order, victim)
    scene.died(victim, point)
    scene.site.tools.delays = {}
    scene.sweep_until(order.session, "succeeded")
    scene.check(Case(point), order)


@pytest.mark.parametrize("point", [P.BEFORE_RENEWAL, P.AFTER_RENEWAL])
def test_while_a_model_thinks(scene: Scene, point: P):
    order = scene.order()
    follower = scene.begin(Case(point, way="follow"), order, agent="slow")
    scene.follow(order, follower)
    assert scene.site.model_calls(order.text) == [1, 1]
    scene.at_rest(order.session)


class TestAPersonDecides:
    @pytest.mark.parametrize("point", [P.BEFORE_PARK, P.AFTER_PARK])
    def test_before_anybody_knows_of_it(self, scene: Scene, point: P):
        order = scene.order()
        scene.begin(Case(point), order, agent="careful")
        (run,) = scene.sweep_until(order.session, "waiting")
        self.decide(scene, scene.survivor, run["id"])
        scene.sweep_until(order.session, "succeeded")
        scene.check(Case(point, again=LOOK if point is P.BEFORE_PARK else frozenset()), order)

    @pytest.mark.parametrize("point", [P.BEFORE_DECISION, P.AFTER_DECISION, P.BEFORE_ENQUEUE])
    def test_while_it_is_told(self, scene: Scene, point: P):
        order, victim = scene.order(), scene.site.victim(point)
        answer = scene.survivor.ask("POST", "/api/v1/agents/orders.careful/chat", order.body)
        assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
        run = answer.json()["id"]
        with pytest.raises(httpx2.TransportError):
            self.decide(scene, victim, run)
        scene.died(victim, point)
        again = self.decide(scene, scene.survivor, run)
        assert again.status_code == (202 if point is P.BEFORE_DECISION else 409), again.text
        scene.sweep_until(order.session, "succeeded")
        scene.check(Case(point), order)

    def decide(self, scene: Scene, process: Killable, run: str) -> httpx2.Response:
        return process.ask("POST", f"/api/v1/runs/{run}/approve", {"decisions": [{"decision": "allow"}]})


@pytest.mark.parametrize(("point", "asked"), [(P.BEFORE_PROMOTION, [1, 1]), (P.AFTER_PROMOTION, [1])])
def test_the_next_run_of_the_session_gets_its_turn(scene: Scene, point: P, asked: list[int]):
    order, next_one, victim = scene.order(), scene.order(), scene.site.victim(point)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(tell, victim, "POST", "/api/v1/agents/orders.slow/chat", order.body)
        until(lambda: scene.site.model_calls(order.text), "the first run to begin")
        later = {"message": next_one.text, "session_id": order.session}
        tell(victim, "POST", "/api/v1/agents/orders.brief/runs", later)
        first.result(20)
    scene.died(victim, point)
    scene.sweep_until(order.session, "succeeded", "succeeded")
    said = [message["parts"][0]["text"] for message in scene.messages(order.session)]
    assert said == [order.text, f"Slowly: {order.text}", next_one.text, f"Yes: {next_one.text}"]
    assert (scene.site.model_calls(order.text), scene.site.model_calls(next_one.text)) == (asked, [1])
    scene.at_rest(order.session)


@pytest.mark.parametrize("point", [P.BEFORE_REDISPATCH, P.AFTER_REDISPATCH])
def test_the_sweeper_dies_too(scene: Scene, point: P):
    order = scene.order()
    scene.begin(Case(P.AFTER_RESULTS), order)
    victim = scene.site.victim(point)

    def swept() -> bool:
        tell(victim, "POST", "/sweep", headers=INTERNAL)
        return not victim.alive()

    until(swept, "the sweeper to die")
    scene.died(victim, point)
    scene.sweep_until(order.session, "succeeded")
    scene.check(Case(point), order)


@pytest.mark.parametrize(("point", "status"), [(P.BEFORE_CANCEL, "succeeded"), (P.AFTER_CANCEL, "cancelled")])
def test_who_cancels_dies(scene: Scene, point: P, status: str):
    order, victim = scene.order(), scene.site.victim(point)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(scene.survivor.ask, "POST", "/api/v1/agents/orders.slow/chat", order.body)
        (run,) = until(lambda: _begun(scene, order), "the run to begin")
        with pytest.raises(httpx2.TransportError):
            victim.ask("POST", f"/api/v1/runs/{run['id']}/cancel")
        scene.died(victim, point)
        assert running.result(20).status_code == (200 if status == "succeeded" else 409)
    assert scene.runs_of(order.session)[0]["status"] == status
    assert scene.site.model_calls(order.text) == [1]
    scene.at_rest(order.session)


def _begun(scene: Scene, order: Order) -> list[dict[str, Any]]:
    return scene.runs_of(order.session) if scene.site.model_calls(order.text) else []


@pytest.mark.parametrize(("point", "made"), [(P.BEFORE_SUMMARY, 2), (P.AFTER_SUMMARY, 1)])
def test_a_summary_is_made(scene: Scene, point: P, made: int):
    """Two long turns make the third one's process summarise them first, which is a call of the model, too."""
    order = scene.order()
    long = f"{order.text} " + "word " * 500
    for _ in range(2):
        answer = scene.survivor.ask(
            "POST", "/api/v1/agents/orders.wordy/chat", {"message": long, "session_id": order.session}
        )
        assert answer.status_code == 200, answer.text
    before = len(scene.site.diary.read())
    scene.begin(Case(point), order, agent="wordy")
    scene.sweep_until(order.session, "succeeded", "succeeded", "succeeded")
    calls = [entry for entry in scene.site.diary.read()[before:] if entry["what"] == "model"]
    assert len(calls) == made + 1
    assert calls[-1]["user"] == order.text
    assert scene.messages(order.session)[-1]["parts"][0]["text"] == f"Yes: {order.text}"
    scene.at_rest(order.session)

"""For tests/e2e/test_kills*: a site whose processes are killed, one that lives, and what must be true in the end.

A run is gone on with because its request is sent again (`retry`), because the sweeper finds it (`sweep`), or because
somebody follows its events (`follow`).
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx2
import pytest
from tests.support.following import Follower
from tests.support.processes import INTERNAL_KEY, Killable, Site, until
from tests.support.records import held

from goagents.testing.kill_points import KillPoint

Way = Literal["retry", "sweep", "follow"]
ORDERS = itertools.count(1001)
ROUNDS = (1, 2, 3)  # of the model, in a run that nothing disturbs
INTERNAL = {"Authorization": f"Bearer {INTERNAL_KEY}"}


@dataclass(frozen=True)
class Case:
    """Where a run's process dies, and what is to be seen afterwards.

    `models` are the rounds that a model was asked for, over all processes. `again` are the tools that may have been
    called once more than usual, `refunds` the calls of the unsafe one; `known`: whether the run learned what they came
    to.
    """

    point: KillPoint
    occurrence: int = 1
    tool: str | None = None
    way: Way = "retry"
    models: tuple[int, ...] = ROUNDS
    again: frozenset[str] = frozenset()
    refunds: int = 1
    known: bool = True

    def __str__(self) -> str:
        return "-".join(str(part) for part in (self.point, self.occurrence, self.tool, self.way) if part is not None)

    @property
    def in_second_step(self) -> bool:
        return self.occurrence == 2 or self.tool == "refund" or "tool-result" in self.point


@dataclass
class Order:
    """One run's order: its number tells its calls, its session and its model calls from all others."""

    number: int

    @property
    def text(self) -> str:
        return f"Please refund order {self.number}."

    @property
    def session(self) -> str:
        return f"order-{self.number}"

    @property
    def body(self) -> dict[str, str]:
        return {"message": self.text, "session_id": self.session}

    @property
    def key(self) -> dict[str, str]:
        return {"Idempotency-Key": f"key-{self.number}"}


@dataclass
class Scene:
    """`plain` is the conversation of a run that nothing disturbed."""

    site: Site
    survivor: Killable
    plain: list[dict[str, Any]]

    @classmethod
    @contextmanager
    def of(cls, site: Site) -> "Iterator[Scene]":
        with site:
            scene, order = cls(site, site.survivor(), []), Order(next(ORDERS))
            answer = scene.survivor.ask("POST", "/api/v1/agents/orders.clerk/chat", order.body)
            assert answer.status_code == 200, answer.text
            scene.plain = scene.conversation(order)
            assert _text(scene.plain[-1]) == "Order 0 is refunded, in the end."
            assert tuple(site.model_calls(order.text)) == ROUNDS
            scene.at_rest(order.session)
            yield scene

    def order(self) -> Order:
        """Return the order of a run to be; nothing is slow at first."""
        self.site.tools.delays, self.site.tools.on_call = {}, None
        return Order(next(ORDERS))

    def begin(self, case: Case, order: Order, agent: str = "clerk") -> Follower:
        """Have a process begin the run, and die."""
        if case.in_second_step:
            self.site.tools.delays = {"look": 0.2}  # so that of this step's calls it is done last
        victim = self.site.victim(case.point, case.occurrence, case.tool)
        follower = self.send(case, order, victim, agent)
        self.died(victim, case.point)
        return follower

    def send(self, case: Case, order: Order, victim: Killable, agent: str = "clerk") -> Follower:
        """Send the request to a process that dies before it has answered."""
        follower = Follower()
        if case.way == "follow":
            url = f"{victim.url}/api/v1/agents/orders.{agent}/stream"
            follower.listen("POST", url, body=order.body, headers=order.key)
        else:
            with pytest.raises(httpx2.TransportError):
                victim.ask("POST", f"/api/v1/agents/orders.{agent}/chat", order.body, headers=order.key)
        return follower

    def died(self, victim: Killable, point: KillPoint) -> None:
        """Wait until the process is dead, and assert that it died where it was told to."""
        victim.wait_dead()
        assert any(entry["what"] == "died" and entry["point"] == point for entry in self.site.diary.read()[-8:])

    def go_on(self, case: Case, order: Order, follower: Follower) -> None:
        """Have the survivor go on with the run, to its end."""
        if case.way == "sweep":
            self.sweep_until(order.session, "succeeded")
        elif case.way == "retry":
            answer = self.survivor.ask("POST", "/api/v1/agents/orders.clerk/chat", order.body, headers=order.key)
            assert answer.status_code == 200, answer.text
        else:
            self.follow(order, follower)

    def follow(self, order: Order, follower: Follower) -> None:
        run = follower.run_id or self.runs_of(order.session)[0]["id"]
        assert follower.listen("GET", f"{self.survivor.url}/api/v1/runs/{run}/events") == 200
        assert follower.over
        said = [message for message in self.messages(order.session) if message["role"] == "assistant"]
        assert follower.completed() == said
        assert follower.said() == "".join(map(_text, said))

    def check(self, case: Case, order: Order) -> None:
        conversation = self.conversation(order)
        if case.known:
            assert conversation == self.plain
        else:
            assert conversation[:4] == self.plain[:4]
            refund = conversation[4]["parts"][0]
            assert (refund["name"], refund["is_error"], refund["unknown"]) == ("refund", True, True)
            assert _text(conversation[-1]) == "Nobody knows about order 0."
        assert self.site.model_calls(order.text) == list(case.models)
        self.check_calls(case, order)
        self.at_rest(order.session)

    def check_calls(self, case: Case, order: Order) -> None:
        tools = self.site.tools
        assert len(tools.of("refund", order.number)) == case.refunds
        for tool, usual in (("look", 2), ("reserve", 1)):
            made = len(tools.of(tool, order.number))
            assert usual <= made <= usual + (tool in case.again), f"{tool} was called {made} times"
        assert len({call.key for call in tools.of("reserve", order.number)}) == 1

    def messages(self, session: str) -> list[dict[str, Any]]:
        answer = self.survivor.ask("GET", f"/api/v1/sessions/{session}/messages", params={"page_size": "100"})
        assert answer.status_code == 200, answer.text
        return [item["message"] for item in answer.json()["items"]]

    def conversation(self, order: Order) -> list[dict[str, Any]]:
        """The messages of an order's session, with 0 for its number: alike for all orders."""
        found: list[dict[str, Any]] = json.loads(
            json.dumps(self.messages(order.session)).replace(str(order.number), "0")
        )
        return found

    def runs_of(self, session: str) -> list[dict[str, Any]]:
        """The runs of a session, oldest first."""
        answer = self.survivor.ask("GET", "/api/v1/runs", params={"session_id": session})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["items"]
        return found[::-1]

    def sweep(self) -> dict[str, Any]:
        answer = self.survivor.ask("POST", "/sweep", headers=INTERNAL)
        assert answer.status_code == 200, answer.text
        report: dict[str, Any] = answer.json()
        return report

    def sweep_until(self, session: str, *statuses: str) -> list[dict[str, Any]]:
        """Sweep, again and again, until the session's runs have these statuses."""

        def swept() -> list[dict[str, Any]] | None:
            self.sweep()
            runs = self.runs_of(session)
            return runs if tuple(run["status"] for run in runs) == statuses else None

        found: list[dict[str, Any]] = until(swept, f"the runs of {session} to be {statuses}", pause=0.1)
        return found

    def at_rest(self, session: str) -> None:
        """Assert that nothing is held: no session, slot or instance."""
        found = self.survivor.ask("GET", f"/api/v1/sessions/{session}").json()
        assert (found["active_run"], found["queued_runs"]) == (None, [])
        assert held(self.site.store, "orders") == []
        assert self.survivor.ask("GET", "/api/v1/clusters/orders").json()["active_runs"] == 0


def _text(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")

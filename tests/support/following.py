"""Following a run over raw server-sent events, from one process to the next: nothing missing, nothing twice."""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2

from goagents.events import TERMINAL_EVENTS, Cursor


@dataclass(frozen=True)
class Heard:
    cursor: Cursor
    type: str
    data: dict[str, Any]


@dataclass
class Follower:
    """`heard` is every event in the order it came, `lost` how many of them a later attempt made void."""

    heard: list[Heard] = field(default_factory=list)
    lost: int = 0

    def listen(self, method: str, url: str, *, body: Any = None, headers: Mapping[str, str] | None = None) -> int:
        """Take in a stream until it ends or breaks; return the status, 0 where there was no answer at all.

        Raises AssertionError for an event that came before, or that leaves one out.
        """
        given = dict(headers or {}) | ({"Last-Event-ID": str(self.heard[-1].cursor)} if self.heard else {})
        status = 0
        with (
            suppress(httpx2.TransportError),
            httpx2.Client(timeout=60, trust_env=False) as http,
            http.stream(method, url, json=body, headers=given) as answer,
        ):
            status = answer.status_code
            if status == 200:
                self._take(answer.iter_lines())
        return status

    @property
    def over(self) -> bool:
        return bool(self.heard) and self.heard[-1].type in TERMINAL_EVENTS

    @property
    def run_id(self) -> str | None:
        return next((one.data["run_id"] for one in self.heard if "run_id" in one.data), None)

    def holding(self) -> list[Heard]:
        """Return the events that hold: without those that a later attempt made void."""
        kept: list[Heard] = []
        for one in self.heard:
            if one.type == "attempt":
                after = one.data["resumed_after"]
                limit = Cursor.parse(after) if after else Cursor(0, 0)
                self.lost += sum(each.cursor > limit for each in kept)
                kept = [each for each in kept if each.cursor <= limit]
            kept.append(one)
        return kept

    def said(self) -> str:
        """Return the text that holds, of all deltas."""
        return "".join(one.data["text"] for one in self.holding() if one.type == "message.delta")

    def completed(self) -> list[Any]:
        """Return the whole messages of the model that hold."""
        return [one.data["message"] for one in self.holding() if one.type == "message.completed"]

    def _take(self, lines: Iterable[str]) -> None:
        fields: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                self._add(Heard(Cursor.parse(fields["id"]), fields["event"], json.loads(fields["data"])))
                fields = {}

    def _add(self, one: Heard) -> None:
        if self.heard:
            last = self.heard[-1].cursor
            assert one.cursor > last, f"{one.cursor} came after {last}"
            follows = one.cursor.seq == (last.seq + 1 if one.cursor.attempt == last.attempt else 1)
            assert follows, f"between {last} and {one.cursor} something is missing"
        self.heard.append(one)

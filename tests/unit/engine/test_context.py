"""What of a session goes to the model, and that its beginning stays the same."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from goagents.engine.execution.context import (
    MAX_MESSAGES,
    MAX_SUMMARY,
    MAX_UNTRIMMED,
    PAGE,
    Entry,
    History,
    compact,
    cut,
    estimate_tokens,
    history_of,
    shrink,
    summary_tokens,
)
from goagents.messages import (
    MESSAGE,
    ImagePart,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    user_message,
)
from goagents.providers import anthropic_request, gemini_request, openai_request
from goagents.providers.base import ModelRequest, ToolSchema
from goagents.records import MessageRecord, SessionRecord
from goagents.spec.cluster import ContextPolicy
from goagents.store.base import Document

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOOL = ToolSchema("look", "Looks", {"type": "object", "properties": {"id": {"type": "integer"}}})
MODELS = {"anthropic": "claude-sonnet-4-5", "openai": "gpt-5", "gemini": "gemini-2.5-pro"}
WORDS = ["order", "größe", "désolé", "注文番号", "parcel", "1001", "🙂", "refund"]


def says(text: str) -> Message:
    return Message("assistant", (TextPart(text),))


def numbered(*messages: Message, first: int = 1) -> tuple[Entry, ...]:
    return tuple(enumerate(messages, start=first))


def short(turns: int, first: int = 1) -> History:
    """Turns of one question and one answer."""
    messages = [m for i in range(turns) for m in (user_message(f"q{i}"), says(f"a{i}"))]
    return History(numbered(*messages, first=first), compacted=first - 1)


def with_tool(answers: int = 1) -> tuple[Message, ...]:
    """A turn that calls a tool so many times."""
    rounds = [
        message
        for i in range(answers)
        for message in (
            Message("assistant", (ToolCallPart(f"c{i}", "look", {"id": i}),)),
            Message("tool", (ToolResultPart(f"c{i}", "look", (TextPart("found"),)),)),
        )
    ]
    return (user_message("look"), *rounds, says("there"))


def policy(most: int = 1000, kept: int | None = None, strategy: str = "trim") -> ContextPolicy:
    return ContextPolicy.model_validate({"strategy": strategy, "max_tokens": most, "keep_tokens": kept})


def page(entries: Sequence[Entry]) -> list[Document]:
    """The newest messages as the store returns them."""
    records = [
        MessageRecord(seq=n, run="r", agent="a", message=MESSAGE.dump_python(m, mode="json"), created_at=NOW)
        for n, m in entries
    ]
    return [Document(f"m/{record.seq}", record.data(), "1") for record in reversed(records)]


def session(head: int, compacted: int = 0, summary: str | None = None) -> SessionRecord:
    return SessionRecord(
        id="s",
        namespace="default",
        cluster="c",
        cluster_uid="u",
        principal="alice",
        head=head,
        compacted=compacted,
        summary=summary,
        created_at=NOW,
        updated_at=NOW,
    )


def whole(history: History) -> None:
    """A prompt begins with a user message, and each call is answered by the message behind it."""
    prompt = history.prompt()
    assert not prompt or prompt[0].role == "user"
    asked: list[str] = []
    for message in prompt:
        results = [part.call_id for part in message.parts if isinstance(part, ToolResultPart)]
        assert results == asked
        asked = [call.id for call in message.tool_calls]
    assert asked == []


# What is read


def test_a_session_that_is_new_has_no_history():
    assert history_of([], None) == History()
    assert History().prompt() == ()
    assert history_of([], session(0)) == History()


def test_messages_come_in_order_and_those_compacted_stay_away():
    entries = short(3).entries
    history = history_of(page(entries), session(6, compacted=2))
    assert history == History(entries[2:], None, 2)
    assert history_of(page(entries), session(6, compacted=6)).prompt() == ()


def test_a_page_that_begins_within_a_turn_is_cut_to_whole_turns():
    entries = numbered(*with_tool(), *with_tool(2), first=101)
    for start in range(1, 4):  # a call without its question, a result without its call, an answer
        history = history_of(page(entries[start:]), session(110))
        assert history == History(entries[4:], None, 104)
        whole(history)


def test_of_a_page_without_any_question_nothing_is_left():
    entries = numbered(*with_tool(3), first=11)[2:]
    assert history_of(page(entries), session(18, summary="before")) == History((), "before", 18)


def test_a_gap_before_the_page_counts_as_compacted():
    assert history_of(page(short(2, first=301).entries), session(304, compacted=20)).compacted == 300


def test_a_summary_comes_first_and_is_framed_as_data():
    history = History(numbered(user_message("and now?"), first=9), "Her name is Ada. {0} {}", 8)
    first, second = history.prompt()
    assert first.role == "user"
    assert first.text.startswith("[Summary of the earlier conversation]")
    assert "\n\nHer name is Ada. {0} {}\n\n" in first.text
    assert first.text.endswith("[End of the summary]")
    assert second.text == "and now?"
    assert [m.text for m in History((), "x", 8).prompt()] == [first.text.replace("Her name is Ada. {0} {}", "x")]


# What it costs


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        (TextPart(""), 0),
        (TextPart("abcd"), 1),
        (TextPart("abcde"), 2),
        (TextPart("注文番号"), 3),
        (TextPart("\ud800"), 1),
        (ImagePart(url="https://example.com/a.png"), 1600),
        (ImagePart(media_type="image/png", data="A" * 1_000_000), 1600),
        (ReasoningPart("abcd", signature="s" * 1000), 1),
        (ReasoningPart("", signature="abcdefgh", redacted=True), 2),
        (ToolCallPart("c", "look", {"id": 1}), 12 + 1 + 3),
        (ToolCallPart("c", "look", {}, malformed="{'id'"), 12 + 1 + 2),
        (ToolResultPart("c", "look", (TextPart("abcd"), ImagePart(url="u"))), 12 + 1 + 1 + 1600),
    ],
)
def test_tokens_are_estimated(part: Any, tokens: int):
    assert estimate_tokens([Message("user", (part,))]) == 4 + tokens
    assert estimate_tokens([Message("user", (part, part)), Message("user", (part,))]) == 8 + 3 * tokens


def test_a_history_knows_what_each_message_costs():
    history = short(2)
    assert history.sizes == tuple(estimate_tokens([message]) for _, message in history.entries)
    assert sum(history.append(5, user_message("x" * 400)).sizes) == sum(history.sizes) + 104


@pytest.mark.parametrize(
    ("most", "kept", "tokens"), [(1000, None, 250), (1000, 999, 200), (100_000, None, 4000), (10_000, 4000, 3000)]
)
def test_a_summary_takes_half_of_the_gap(most: int, kept: int | None, tokens: int):
    assert summary_tokens(policy(most, kept)) == tokens <= MAX_SUMMARY // 4


# What is cut


def test_what_fits_is_not_cut():
    assert cut(History(), policy(), user_message("hi")) is None
    history = History(numbered(user_message("x" * 2000), says("x" * 1900)))  # 504 and 479 tokens
    assert cut(history, policy(), user_message("x" * 52)) is None  # 17 more
    assert cut(history, policy(), user_message("x" * 53)) == 2


def test_the_newest_turns_stay_up_to_what_is_kept():
    turns = [user_message("x" * 760), says("x" * 24)]  # 204 tokens a turn, with both messages
    history = History(numbered(*turns * 5))
    assert cut(history, policy(1000, 410), user_message("hi")) == 6
    assert cut(history, policy(1000, 408), user_message("hi")) == 6
    assert cut(history, policy(1000, 407), user_message("hi")) == 8


def test_the_newest_turn_stays_if_it_fits_at_all():
    history = History((*short(3).entries, *numbered(user_message("x" * 3600), says("ok"), first=7)))  # 904 and 5
    assert cut(history, policy(1000, 100), user_message("x" * 300)) == 6  # 79 tokens
    assert cut(history, policy(1000, 100), user_message("x" * 400)) == 8


def test_room_is_left_for_the_message_that_comes_and_for_a_summary():
    history = History(numbered(*[user_message("x" * 384)] * 9))  # 100 tokens each
    large = user_message("x" * 2384)  # 600
    assert cut(history, policy(1000, 500), large) == 5
    assert cut(history, policy(1000, 500, "summarize"), large) == 8  # whose summary may take 250
    assert cut(History((), None, 9), policy(), user_message("x" * 8000)) is None  # nothing is left to cut


def test_a_summary_longer_than_the_policy_allows_leaves_room_all_the_same():
    history = History(short(2).entries, "x" * MAX_SUMMARY, 0)
    assert cut(history, policy(), user_message("hi")) is None
    assert cut(History(short(2).entries, "x" * 900), policy(), user_message("x" * 3020)) == 2  # 225 and 759


def test_messages_are_bounded_so_that_one_read_suffices():
    assert cut(short(74), policy(10_000), user_message("hi")) is None  # 149 messages with the one that comes
    assert MAX_MESSAGES == 150
    through = cut(short(75), policy(10_000), user_message("hi"))
    assert through == 150 - 74  # whole turns: half of the bound is 75
    assert MAX_MESSAGES < PAGE


def test_a_turn_of_more_messages_than_the_bound_stays_while_it_is_the_newest():
    entries = (*short(2).entries, *numbered(*with_tool(100), first=5))
    assert cut(History(entries), policy(100_000), user_message("hi")) == 4
    assert cut(History(entries[4:]), policy(100_000), user_message("hi")) is None
    after = (*entries, *numbered(user_message("hi"), says("ho"), first=len(entries) + 1))
    assert cut(History(after), policy(100_000), user_message("hi")) == len(entries)


def test_the_strategy_none_sends_all_there_is_within_a_wide_bound():
    costly = History(numbered(*[user_message("x" * 4000)] * (MAX_UNTRIMMED - 1)))
    assert cut(costly, policy(1000, strategy="none"), user_message("hi")) is None
    more = costly.append(MAX_UNTRIMMED, user_message("x"))
    assert cut(more, policy(1000, strategy="none"), user_message("hi")) == MAX_UNTRIMMED // 2


def test_a_compaction_leaves_out_and_keeps_or_replaces_the_summary():
    history = short(3)
    assert compact(history, 4, "what was") == History(history.entries[4:], "what was", 4)
    again = compact(compact(history, 2, "what was"), 4, None)
    assert again == History(history.entries[4:], "what was", 4)
    assert compact(again, 2, None) == again  # never back
    assert compact(History(numbered(*with_tool(), *with_tool())), 2, None).compacted == 4  # never within a turn


def test_shrinking_halves_the_turns_until_one_is_left():
    history, left = short(9).append(19, user_message("too long?")), []
    while (through := shrink(history)) is not None:
        history = compact(history, through, None)
        left.append(len(history.turns))
        whole(history)
    assert left == [5, 2, 1]
    assert [m.text for m in history.prompt()] == ["too long?"]
    assert shrink(History()) is None


# Sessions of hundreds of turns


@dataclass
class Conversation:
    """A session that goes on: its record, as an integrator keeps it, and what each request had for messages."""

    rules: ContextPolicy
    provider: str = "scripted"
    model: str = "m"
    dice: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - repeatable, guards nothing
    stored: list[Document] = field(default_factory=list)
    tokens: int = 0
    compacted: int = 0
    summary: str | None = None
    compactions: list[int] = field(default_factory=list)

    def requests(self, turns: int) -> Iterator[tuple[bool, tuple[Message, ...]]]:
        """Yield the messages of each request, and whether a compaction came before it."""
        for turn in range(turns):
            asked = self._question()
            record = session(len(self.stored), self.compacted, self.summary)
            history = history_of(self.stored[-PAGE:][::-1], record)
            assert history.compacted == self.compacted  # one read was enough
            through = cut(history, self.rules, asked)
            if through is not None:
                summary = f"What was said up to turn {turn}." if self.rules.strategy == "summarize" else None
                history = compact(history, through, summary)
                self.compacted, self.summary = history.compacted, history.summary
                self.compactions.append(turn)
            history = history.append(len(self.stored) + 1, asked)
            whole(history)
            frame = 60  # of a summary
            assert history.entries[1:] == () or estimate_tokens(history.prompt()) <= self.rules.max_tokens + frame
            yield from self._turn(history.prompt(), asked, compacted=through is not None)

    def _turn(
        self, prompt: tuple[Message, ...], asked: Message, *, compacted: bool
    ) -> Iterator[tuple[bool, tuple[Message, ...]]]:
        yield compacted, prompt
        said = [asked]
        if self.dice.random() < 0.15:
            self._store(said)  # the run failed: its question has no answer
            return
        for number in range(self.dice.choice([0, 0, 1, 2])):
            said += self._round(number)
            yield False, (*prompt, *said[1:])
        said.append(Message("assistant", (TextPart(self._text(80)),), self.provider, self.model))
        self._store(said)

    def _round(self, number: int) -> tuple[Message, Message]:
        ids = [f"call_{number}_{i}" for i in range(self.dice.choice([1, 2]))]  # the same ones in each turn
        thought = ReasoningPart(self._text(10), signature="c2ln")
        calls = [ToolCallPart(i, "look", {"id": self.dice.randrange(9999), "why": self._text(3)}) for i in ids]
        results = [ToolResultPart(i, "look", (TextPart(self._text(60)),)) for i in ids]
        return (
            Message("assistant", (thought, TextPart("I look."), *calls), self.provider, self.model),
            Message("tool", tuple(results)),
        )

    def _store(self, messages: list[Message]) -> None:
        for message in messages:
            self.stored += page([(len(self.stored) + 1, message)])
            self.tokens += estimate_tokens([message])

    def _question(self) -> Message:
        picture = [ImagePart(url="https://example.com/a.png")] if self.dice.random() < 0.03 else []
        return Message("user", (TextPart(self._text(40)), *picture))

    def _text(self, most: int) -> str:
        return " ".join(self.dice.choices(WORDS, k=self.dice.randint(1, most)))


def unmarked(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name != "cache_control"}


def anthropic_body(request: ModelRequest) -> tuple[list[Any], Any]:
    body = anthropic_request.request_body(request)
    messages = [{**item, "content": [unmarked(block) for block in item["content"]]} for item in body.pop("messages")]
    return messages, body


def openai_body(request: ModelRequest) -> tuple[list[Any], Any]:
    body = openai_request.request_body(request, modern=True)
    return body.pop("messages"), body


def gemini_body(request: ModelRequest) -> tuple[list[Any], Any]:
    body = gemini_request.request_body(request)
    return body.pop("contents"), body


BODIES = {"anthropic": anthropic_body, "openai": openai_body, "gemini": gemini_body}


def test_bodies_of_all_providers_are_compared():
    assert BODIES.keys() == MODELS.keys()


@pytest.mark.parametrize("strategy", ["trim", "summarize"])
@pytest.mark.parametrize("provider", BODIES)
def test_each_prompt_begins_with_the_one_before_except_at_compactions(provider: str, strategy: str):
    rules = policy(12_000, 5_000, strategy)
    talk = Conversation(rules, provider, MODELS[provider])
    build: Callable[[ModelRequest], tuple[list[Any], Any]] = BODIES[provider]
    before, envelope, requests, broken = "", None, 0, 0
    for compacted, messages in talk.requests(300):
        sent, rest = build(
            ModelRequest(MODELS[provider], messages, "Be brief.", (TOOL,), {"reasoning": "low", "max_tokens": 9000})
        )
        requests += 1
        # What the next message is merged into (two questions in a row) may change its form: the last one is left out.
        beginning = json.dumps(sent[:-1], ensure_ascii=False)[:-1]
        if compacted:
            broken += 1
        else:
            assert json.dumps(sent, ensure_ascii=False).startswith(before)
        assert envelope in (None, rest)  # system, tools and settings are the same in each request
        before, envelope = beginning, rest
    assert requests > 450
    assert broken == len(talk.compactions)
    expected = talk.tokens / (rules.max_tokens - rules.kept)
    assert expected > 10
    assert expected - 3 <= broken <= expected + 3


def test_the_messages_compacted_are_still_in_the_session():
    talk = Conversation(policy(2_000, 800))
    for _ in talk.requests(120):
        pass
    assert talk.compacted > 100
    assert [document.data["seq"] for document in talk.stored] == list(range(1, len(talk.stored) + 1))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_said_the_prompt_is_whole_and_in_bounds(seed: int):
    dice = random.Random(seed)  # noqa: S311 - repeatable, guards nothing
    most = dice.choice([1_000, 3_000, 20_000, 1_000_000])
    rules = policy(most, dice.choice([None, 100, most - 1]), dice.choice(["trim", "summarize"]))
    talk = Conversation(rules, dice=dice)
    texts = talk._text
    talk._text = lambda most: texts(most if rules.max_tokens > 3_000 else 8)  # type: ignore[method-assign]
    for _ in talk.requests(100):
        pass
    assert rules.max_tokens > 20_000 or talk.compactions
    assert len(talk.stored) - talk.compacted <= MAX_MESSAGES + 6

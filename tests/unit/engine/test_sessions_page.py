"""docs/sessions.md says what is so: its examples load, its numbers are those of the code."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from goagents.engine.execution.compaction import MAX_RESULT
from goagents.engine.execution.context import MAX_MESSAGES, MAX_SUMMARY, MAX_UNTRIMMED, estimate_tokens, summary_tokens
from goagents.messages import ImagePart, Message, TextPart, user_message
from goagents.providers.anthropic_request import request_body
from goagents.providers.base import ModelRequest, ToolSchema
from goagents.resources import SessionPolicy
from goagents.spec.cluster import AgentSpec, ContextPolicy
from goagents.spec.config import Config

PAGE = (Path(__file__).parents[3] / "docs" / "sessions.md").read_text(encoding="utf-8")
PROSE = " ".join(PAGE.split())
AGENTS = [
    AgentSpec.model_validate(agent)
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for agent in yaml.safe_load(block)["agents"]
]


def rows(heading: str) -> set[str]:
    """The first column of the table whose first heading this is."""
    table = PAGE.split(f"| {heading} |")[1].split("\n\n")[0]
    return {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def body(agent: AgentSpec) -> dict[str, Any]:
    tool = ToolSchema("look", "Looks", {})
    messages = (user_message("hi"), Message("assistant", (TextPart("ho"),)), user_message("hm"))
    return request_body(ModelRequest(agent.model, messages, "Be brief.", (tool,), agent.model_settings))


def test_the_examples_load():
    assert [agent.name for agent in AGENTS] == ["assistant", "assistant", "classifier", "adviser"]
    assert AGENTS[0].session_policy == "interrupt"
    assert AGENTS[1].context == ContextPolicy(strategy="summarize", max_tokens=60_000, keep_tokens=20_000)


def test_every_policy_and_strategy_is_there():
    assert rows("`session_policy`") == set(get_args(SessionPolicy))
    assert rows("`strategy`") == set(get_args(ContextPolicy.model_fields["strategy"].annotation))
    assert f"`runs.max_queue` ({Config().runs.max_queue})" in PROSE


def test_the_numbers_are_those_of_the_code():
    policy = ContextPolicy()
    assert f"more than `max_tokens` ({policy.max_tokens:,})" in PROSE
    assert policy.kept == policy.max_tokens // 2
    assert "one for four bytes of text, 1,600 for an image" in PROSE
    assert estimate_tokens([Message("user", (TextPart("x" * 400), ImagePart(url="u")))]) == 4 + 100 + 1600
    assert f"{MAX_MESSAGES} go to the model at most, {MAX_UNTRIMMED} with `none`" in PROSE
    assert f"at most {MAX_SUMMARY:,} bytes, and at most half of `max_tokens` - `keep_tokens`" in PROSE
    assert summary_tokens(ContextPolicy(max_tokens=10_000, keep_tokens=4_000)) == 3_000
    assert f"cut to {MAX_RESULT:,} bytes each" in PROSE


@pytest.mark.parametrize(("name", "marks"), [("assistant", 4), ("classifier", 0), ("adviser", 1)])
def test_anthropics_cache_is_used_as_the_settings_say(name: str, marks: int):
    agent = next(agent for agent in AGENTS if agent.name == name)
    made = body(agent)
    assert str(made).count("'cache_control'") == marks
    assert made.get("cache_control") == agent.model_settings.get("cache_control")

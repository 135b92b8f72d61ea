"""What foreign code raises: the model is told in the adapter's words, the log has the rest without secrets."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from tests.support.calling import desk, text_of

from goagents.engine.calling.foreign import MAX_ERROR, MAX_TRACEBACK, tell_defect
from goagents.engine.calling.secrets import SecretValues
from goagents.errors import ToolFailed
from goagents.telemetry.base import Unexpected
from goagents.tools.redaction import Place, Redactor


def refused(key: str) -> None:
    raise RuntimeError(f"401 for key {key}")


async def test_a_defect_is_logged_once_for_each_attempt_and_without_secrets(tmp_path: Path):
    made = desk(tmp_path, {"KEY": "sesame-opens"}, headers={"Authorization": "Bearer ${KEY}"}, retries=1)
    with pytest.raises(RuntimeError) as raised:
        refused("sesame-opens")
    failed = ToolFailed("The function raised RuntimeError.").of_defect(raised.value).because("server")
    done = await made.call(made.tool(failed))
    assert text_of(done) == "The function raised RuntimeError."
    first, second = [event for event in made.seen if isinstance(event, Unexpected)]
    assert first == second
    assert (first.where, first.error) == ("tool find", "RuntimeError('401 for key [redacted]')")
    assert "Traceback" in first.traceback
    assert "sesame-opens" not in first.traceback
    await made.around.store.aclose()


class Secrets:
    """Has one redactor for all tools, which counts what it looks at."""

    def __init__(self) -> None:
        self.made = Counting(["sesame-opens"])

    def redactor(self, tool: str) -> Redactor:
        return self.made


class Counting(Redactor):
    looked_at = 0

    def _places(self, text: str, *, cut: bool = False) -> tuple[list[Place], int]:
        self.looked_at += len(text)
        return super()._places(text, cut=cut)


async def test_of_an_endless_message_a_part_is_looked_at_and_told(tmp_path: Path):
    made = desk(tmp_path)
    secrets = Secrets()
    message = "sesame-opens &abcde;" * 200_000
    tell_defect(replace(made.around, secrets=cast("SecretValues", secrets)), "find", "tool find", ValueError(message))
    (event,) = (event for event in made.seen if isinstance(event, Unexpected))
    assert event.error.endswith(f" [cut: the beginning of {len(repr(ValueError(message)))} characters]")
    assert event.traceback.startswith("[cut: the end of ")
    assert len(event.error) < MAX_ERROR + 100
    assert len(event.traceback) < MAX_TRACEBACK + 100
    assert "sesame" not in event.error + event.traceback
    assert secrets.made.looked_at < MAX_ERROR + MAX_TRACEBACK + 6 * secrets.made.longest
    await made.around.store.aclose()

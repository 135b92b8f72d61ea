"""What foreign code raises: the model is told in the adapter's words, the log has the rest without secrets."""

from pathlib import Path

import pytest
from tests.support.calling import desk, text_of

from goagents.errors import ToolFailed
from goagents.telemetry.base import Unexpected


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

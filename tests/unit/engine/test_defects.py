"""What foreign code raises: the model is told in the adapter's words, the log has the rest without secrets."""

from pathlib import Path

from tests.support.calling import desk, text_of

from goagents.errors import ToolFailed
from goagents.telemetry.base import Unexpected


async def test_a_defect_is_logged_once_for_each_attempt_and_without_secrets(tmp_path: Path):
    made = desk(tmp_path, {"KEY": "sesame-opens"}, headers={"Authorization": "Bearer ${KEY}"}, retries=1)
    try:
        raise RuntimeError("401 for key sesame-opens")
    except RuntimeError as error:
        failed = ToolFailed("The function raised RuntimeError.").of_defect(error).because("server")
    done = await made.call(made.tool(failed))
    assert text_of(done) == "The function raised RuntimeError."
    first, second = [event for event in made.seen if isinstance(event, Unexpected)]
    assert first == second
    assert (first.where, first.error) == ("tool find", "RuntimeError('401 for key [redacted]')")
    assert "Traceback" in first.traceback
    assert "sesame-opens" not in first.traceback
    await made.around.store.aclose()

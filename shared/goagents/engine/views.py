"""Runs as the API shows them."""

from collections.abc import Sequence

from goagents.messages import Message, read_message, read_usage
from goagents.records import RunRecord, StepRecord
from goagents.resources import Run, RunStep, Waiting

from .names import AgentId


def run_view(run: RunRecord, steps: Sequence[StepRecord] | None = None, more_steps: str | None = None) -> Run:
    """Return the run, with its steps where they are given, and where there are more."""
    return Run(
        id=run.id,
        kind=run.kind,
        status=run.status,
        session_id=run.session,
        agent=str(AgentId(run.namespace, run.cluster, run.agent)),
        generation=run.generation,
        attempt=run.attempt,
        input=read_message(run.input),
        output=read_message(run.output) if run.output else None,
        stop_reason=run.stop_reason,
        usage=read_usage(run.usage) if run.usage else None,
        tool_calls=run.tool_calls,
        error=run.error,
        waiting=Waiting.model_validate(run.waiting) if run.waiting and run.status == "waiting" else None,
        webhook=run.webhook,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        steps=[_step_view(step) for step in steps] if steps is not None else None,
        next_page_token=more_steps,
    )


def _step_view(step: StepRecord) -> RunStep:
    message: Message | None = read_message(step.message) if step.message else None
    usage = read_usage(step.usage) if step.usage else None
    return RunStep(
        number=step.number, kind=step.kind, message=message, text=step.text, usage=usage, created_at=step.created_at
    )

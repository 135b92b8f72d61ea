"""The end of a run, in one commit: messages, usage, slot, instance and session released, the run terminal."""

import random
from dataclasses import asdict
from datetime import datetime
from typing import Any

from goagents.engine.admission.admit import Admitted
from goagents.errors import GoAgentsError
from goagents.messages import MESSAGE
from goagents.records import MessageRecord, Paths
from goagents.store.base import ABSENT, Merge, Put, Write

from .loop import Turn

SHARDS = 8  # counters are spread, so that no document is written by every request


def settle_writes(
    paths: Paths, admitted: Admitted, turn: Turn | None, error: GoAgentsError | None, now: datetime
) -> list[Write]:
    """Return the writes that end the run; the journal adds the fence."""
    run, messages = admitted.run, ([] if error or turn is None else turn.new)
    head = admitted.head + len(messages)
    appended = [
        MessageRecord(
            seq=admitted.head + 1 + i,
            run=run.id,
            agent=run.agent,
            message=MESSAGE.dump_python(message, mode="json"),
            created_at=now,
        )
        for i, message in enumerate(messages)
    ]
    released = {"run": None}
    slot, instance = run.slot or 0, run.instance or 0
    return [
        *(Put(paths.message(run.session, record.seq), record.data(), ABSENT) for record in appended),
        Merge(paths.session(run.session), {"head": head, "active_run": None, "updated_at": now}),
        Merge(paths.slot(run.namespace, run.cluster, slot), released),
        Merge(
            paths.instance(run.namespace, run.cluster, run.agent, instance),
            {**released, "agent": run.agent, "number": instance},  # whole, also where the cluster was deleted meanwhile
            server_time=("last_active_at",),
        ),
        Merge(paths.run(run.id), _outcome(turn, error, now)),
        _count(paths, turn, error, now, (now - run.created_at).total_seconds()),
    ]


def _outcome(turn: Turn | None, error: GoAgentsError | None, now: datetime) -> dict[str, Any]:
    outcome: dict[str, Any] = {"status": "failed" if error else "succeeded", "finished_at": now}
    if turn is not None:
        turn.steps.note("finished", f"failed: {error}" if error else "succeeded", failed=error is not None)
        outcome |= {"usage": asdict(turn.usage), "tool_calls": turn.tool_calls, "log": turn.steps.log}
    if error is not None:
        outcome["error"] = error.problem()
    elif turn is not None and turn.final is not None:
        outcome["output"] = MESSAGE.dump_python(turn.final.message, mode="json")
        outcome["stop_reason"] = turn.final.stop_reason
    return outcome


def _count(paths: Paths, turn: Turn | None, error: GoAgentsError | None, now: datetime, duration: float) -> Merge:
    increments: dict[str, int | float] = {"runs": 1, "failed" if error else "succeeded": 1, "duration": duration}
    if turn is not None:
        usage = turn.usage
        increments |= {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cached_input_tokens": usage.cached_input_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "tool_calls": turn.tool_calls,
        }
    day = now.strftime("%Y%m%d")
    shard = random.randrange(SHARDS)  # noqa: S311 - spreads load, guards nothing
    return Merge(paths.usage_shard(day, shard), {"day": day}, increments=increments)

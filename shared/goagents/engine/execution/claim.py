"""A run that this process holds the lease of, with what executing it takes."""

from dataclasses import dataclass

from goagents.engine.loaded import LoadedCluster
from goagents.events import Cursor, EventType
from goagents.records import RunRecord, SignalRecord, StepRecord
from goagents.spec.cluster import AgentSpec
from goagents.store.base import Document

from .context import History
from .journal import Journal
from .steps import recorded


@dataclass(frozen=True, slots=True)
class Claim:
    """`history` holds the session's messages up to the run's own, `unknown` the fingerprints of calls that the session
    remembers, as nobody knows what came of them.

    `session` is the session's document as it was last seen with an empty queue; None: it is read before the end.
    `steps` is what earlier attempts recorded. `crashed`: a process died with the run, so a call without a result may
    have been carried out. `first` is the first event of this attempt, which `starts_after` precedes; `first_kept`: the
    store has it.
    """

    run: RunRecord
    cluster: LoadedCluster
    agent: AgentSpec
    journal: Journal
    history: History
    first: tuple[EventType, dict[str, object]]
    starts_after: Cursor
    session: Document | None = None
    steps: tuple[StepRecord, ...] = ()
    crashed: bool = False
    unknown: frozenset[str] = frozenset()
    first_kept: bool = False
    wish: SignalRecord | None = None

    @property
    def in_doubt(self) -> frozenset[str]:
        """The ids of the calls that may have been carried out though no result is recorded."""
        found = recorded(self.steps)
        if found.open_call is None:
            return frozenset()
        unanswered = {call.id for call in found.open_call.tool_calls} - found.results.keys()
        return frozenset(unanswered if self.crashed else unanswered.intersection(self.run.unfinished))

    @property
    def head(self) -> int:
        """The number of the run's user message."""
        return self.run.head or 0

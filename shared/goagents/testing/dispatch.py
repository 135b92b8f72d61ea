"""Dispatch for tests: nothing is carried out, and what would have been is kept."""

from goagents.dispatch.base import Task
from goagents.errors import DispatchFailed


class RecordingDispatch:
    """Keeps each task in `tasks`, once: one that was there before is no new one, as with a queue.

    `failures` is how many calls to come raise DispatchFailed. `taken()` returns the tasks that are new since it was
    last called, for a test that carries them out itself.
    """

    def __init__(self, failures: int = 0) -> None:
        self.tasks: list[Task] = []
        self.failures = failures
        self._names: set[tuple[str, ...]] = set()
        self._taken = 0

    async def enqueue(self, task: Task) -> None:
        if self.failures:
            self.failures -= 1
            raise DispatchFailed("The test's queue takes no task.")
        name = (task.kind, task.tenant, task.run, task.delivery or "", task.token)
        if name not in self._names:
            self._names.add(name)
            self.tasks.append(task)

    def taken(self) -> list[Task]:
        new = self.tasks[self._taken :]
        self._taken = len(self.tasks)
        return new

    def stop(self) -> None:
        """Nothing is carried out here."""

    async def aclose(self) -> None:
        """Nothing to end."""

"""What an agent said in a run, as its events tell: what was lost with a process is taken back."""

from goagents.events import Cursor, RunEvent
from goagents.messages import read_message


class Transcript:
    """Give it each event of a run, from the first on, as it comes.

        shown = Transcript()
        for event in client.stream("shop.clerk", "Hello"):
            if shown.add(event):
                redraw()
        print(shown.text)

    `events` are those that hold, oldest first; `is_open` is true while a message is being written.
    """

    def __init__(self) -> None:
        self.events: list[RunEvent] = []
        self._texts: list[str] = []
        self.is_open = False
        self._last: Cursor | None = None

    def add(self, event: RunEvent) -> tuple[RunEvent, ...]:
        """Take an event; return those that hold no longer, which only an event `attempt` can name.

        An event that was there before is left aside.
        """
        if self._last is not None and event.cursor <= self._last:
            return ()
        self._last = event.cursor
        lost = self._take_back(event) if event.type == "attempt" else ()
        self.events.append(event)
        self._tell(event)
        return lost

    @property
    def text(self) -> str:
        """The text of the message that is being written, or else of the last one."""
        return self._texts[-1] if self._texts else ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The text of each message, oldest first; between them the agent used tools."""
        return tuple(self._texts)

    def _take_back(self, event: RunEvent) -> tuple[RunEvent, ...]:
        after = event.data.get("resumed_after")
        holds = Cursor.parse(after) if isinstance(after, str) else Cursor(0, 0)
        lost = tuple(each for each in self.events if each.cursor > holds)
        self.events = [each for each in self.events if each.cursor <= holds]
        self._texts, self.is_open = [], False
        for each in self.events:
            self._tell(each)
        return lost

    def _tell(self, event: RunEvent) -> None:
        match event.type:
            case "message.delta":
                self._write(str(event.data.get("text", "")))
            case "message.completed":
                # The whole message: right also where its first events were not seen.
                self._write("")
                self._texts[-1] = read_message(event.data.get("message")).text
                self.is_open = False

    def _write(self, text: str) -> None:
        if not self.is_open:
            self._texts.append("")
            self.is_open = True
        self._texts[-1] += text

"""The declared headers of a `websocket` entry, resolved for each connection, and what of an entry must not be seen."""

from goagents.spec.references import beyond_origin, references, texts_within
from goagents.spec.tools import WebsocketToolSpec
from goagents.tools.base import ToolEnvironment
from goagents.tools.redaction import SecretTexts


class Secrets(SecretTexts):
    def __init__(self, spec: WebsocketToolSpec, environment: ToolEnvironment) -> None:
        self._headers = dict(spec.headers)
        referring = [text for text in spec.headers.values() if references(text)]
        texts = [*referring, *texts_within(spec.message), *texts_within(spec.unsubscribe)]
        found = [*(reference for text in texts for reference in references(text)), *beyond_origin(spec.url)]
        super().__init__([*referring, *(reference.text for reference in found)], environment.resolve)

    def headers(self) -> dict[str, str]:
        """Raises ConfigurationError for an unset or forbidden variable."""
        return {name: self.resolve(text) for name, text in self._headers.items()}

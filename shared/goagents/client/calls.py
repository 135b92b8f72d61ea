"""What a request is, free of any transport: both clients send these."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from goagents.resources import ListOf

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
M = TypeVar("M", bound=BaseModel)
Params = Mapping[str, str | int | bool | None]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. `parse` reads the body of its answer and raises ValueError if it is not what was promised.

    `parse_accepted` reads it instead where the status is 202. An `idempotent` call may be sent again. `timeout` is in
    seconds; without it that of the connection holds.
    """

    method: str
    path: str
    parse: Callable[[bytes], T]
    params: Params = field(default_factory=dict)
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotent: bool = True
    timeout: float | None = None
    parse_accepted: Callable[[bytes], T] | None = None

    @property
    def query(self) -> dict[str, str]:
        values = {name: value for name, value in self.params.items() if value is not None}
        return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}


class EventReader(Protocol[T_co]):
    """Turns the bytes of an event stream into values. `finished` is true once nothing may follow."""

    finished: bool

    def feed(self, chunk: bytes) -> Iterator[T_co]: ...

    def end(self) -> None:
        """The connection ended. Raises StreamEnded where more was to come."""
        ...


@dataclass(frozen=True, slots=True)
class StreamCall(Generic[T]):
    """A request answered by server-sent events; `reader` is called when the stream has begun."""

    call: Call[bytes]
    reader: Callable[[], EventReader[T]]


def path(*segments: str) -> str:
    """Return the path of an API resource; each segment is escaped."""
    return "/api/v1/" + "/".join(quote(segment, safe="") for segment in segments)


def get(where: str, answer: type[M], params: Params | None = None) -> Call[M]:
    return Call("GET", where, answer.model_validate_json, params or {})


def raw(content: bytes) -> bytes:
    return content


def nothing(_: bytes) -> None:
    return None


def page_of(call: Call[ListOf[T]], token: str) -> Call[ListOf[T]]:
    """Return the call of the page that `token` names."""
    return replace(call, params={**call.params, "page_token": token})

"""The scalar types of the format: durations, sizes, names, addresses."""

import math
import re
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

Location = tuple[str | int, ...]  # of a value in a model, as pydantic's errors have it

MAX_DURATION = 366 * 86_400.0
MAX_SIZE = 1 << 40
DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
TOOL_NAME = r"^[A-Za-z0-9_-]{1,64}$"

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION_PART = r"\d+(?:\.\d+)?(?:ms|[smhd])"
_DURATION = re.compile(rf"(?:{_DURATION_PART})+", re.ASCII)
_SIZE_UNITS = {
    "": 1, "B": 1,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
    "kB": 1_000, "KB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000,
}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMG]iB|[kKMG]B|B|)", re.ASCII)
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_HOST_AND_PORT = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:/\[\]]+)):(?P<port>\d{1,5})")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_-]+)*", re.ASCII)


class Model(BaseModel):
    """Unknown fields are errors; values are immutable; an error never repeats the input, which may be a secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def parse_duration(value: object) -> float:
    """Return the seconds of `300ms`, `30s`, `1h30m` or a plain number of seconds. Raises ValueError."""
    seconds = _duration_seconds(value)
    if seconds is None:
        raise ValueError("is not a duration; write 300ms, 30s, 5m, 1h or 1h30m")
    if not 0 <= seconds <= MAX_DURATION:
        raise ValueError("a duration is between 0 and 366 days")
    return seconds


def _duration_seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str) or len(value) > 64:
        return None
    if _NUMBER.fullmatch(value):
        return float(value)
    if not _DURATION.fullmatch(value):
        return None
    parts = re.findall(r"([\d.]+)(ms|[smhd])", value)
    units = [unit for _, unit in parts]
    if sorted(set(units), key=lambda unit: -_DURATION_UNITS[unit]) != units:
        return None
    return math.fsum(_scaled(number, unit) for number, unit in parts)


def _scaled(number: str, unit: str) -> float:
    # 0.3 is nearer to 300 / 1000 than to 300 * 0.001, which is 0.30000000000000004
    return float(number) / 1000 if unit == "ms" else float(number) * _DURATION_UNITS[unit]


def format_duration(seconds: float) -> str | float:
    """Return `seconds` as one writes it (`5m`); as the plain number where no unit gives it back exactly."""
    for unit in ("d", "h", "m", "s", "ms"):
        number = round(seconds * 1000) if unit == "ms" else seconds / _DURATION_UNITS[unit]
        if number == int(number) and (number >= 1 or (unit == "s" and number == 0)):
            text = f"{int(number)}{unit}"
            if _duration_seconds(text) == seconds:
                return text
    return seconds


def parse_size(value: object) -> int:
    """Return the bytes of `64KiB`, `1MiB` or a plain number of bytes. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = float(value)
    elif isinstance(value, str) and len(value) <= 64 and (match := _SIZE.fullmatch(value)):
        size = float(match[1]) * _SIZE_UNITS[match[2]]
    else:
        raise ValueError("is not a size; write 64KiB, 1MiB or a number of bytes")
    if size != int(size):
        raise ValueError("is not a whole number of bytes")
    if not 0 < size <= MAX_SIZE:
        raise ValueError("a size is between 1 byte and 1024GiB")
    return int(size)


def format_size(size: int) -> str | int:
    """Return `size` as one writes it (`64KiB`), as the plain number where no unit divides it."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return size


def wrong_at(location: Location, kind: str, message: str) -> ValidationError:
    """Return what a model's validator raises where what is wrong is about one field, which `location` leads to."""
    return wrong_places(kind, {location: message})


def wrong_places(kind: str, messages: Mapping[Location, str]) -> ValidationError:
    """Return what a model's validator raises where something is wrong at several places."""
    reasons = {place: PydanticCustomError(kind, "{reason}", {"reason": message}) for place, message in messages.items()}
    details = [InitErrorDetails(type=reason, loc=place, input=None) for place, reason in reasons.items()]
    return ValidationError.from_exception_data(kind, details)


def no_boolean(value: Any) -> Any:
    """Refuse `true` where a number is due: to Python it is 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


def _address(value: str) -> str:
    if with_port := _HOST_AND_PORT.fullmatch(value):
        host = _address(with_port["v6"] or with_port["name"])
        if "/" in host.removesuffix("/32").removesuffix("/128") or not 1 <= int(with_port["port"]) <= 65_535:
            raise ValueError("is no address with a port; write it as 10.1.2.3:8080, [fd00::1]:8080 or db.internal:8080")
        return value.lower()
    try:
        return str(ip_network(value, strict=False))
    except ValueError:
        if not _HOST.fullmatch(value):
            raise ValueError("is neither an IP address, a CIDR block such as 10.0.0.0/8, nor a host name") from None
    return value.lower()


def _http_url(value: str) -> str:
    if "${" in value or re.match(r"https?://[^/\s?#]+", value):
        return value
    raise ValueError("is not a URL; it starts with http:// or https:// and names a host")


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, when_used="json"),
    WithJsonSchema({"type": ["string", "number"], "pattern": rf"^(\d+(\.\d+)?|({_DURATION_PART})+)$", "minimum": 0}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, when_used="json"),
    WithJsonSchema(
        {"type": ["string", "integer"], "pattern": r"^\d+(\.\d+)? ?([KMG]iB|[kKMG]B|B|)$", "minimum": 1},
    ),
]
Integer = Annotated[int, BeforeValidator(no_boolean)]
DnsLabel = Annotated[str, StringConstraints(pattern=DNS_LABEL)]
ToolName = Annotated[str, StringConstraints(pattern=TOOL_NAME)]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Address = Annotated[str, AfterValidator(_address)]
HttpUrl = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_http_url)]

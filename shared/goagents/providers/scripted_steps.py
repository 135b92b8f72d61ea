"""The steps of a scripted model: their format, when one fits, and the templates in them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from goagents.codes import by_code
from goagents.errors import ConfigurationError, FieldError, ProviderError
from goagents.framing import unframed
from goagents.messages import Message, StopReason, TextPart, ToolResultPart
from goagents.spec.types import Duration, Model

ANY = "*"
_SLOT = re.compile(r"\{\{|\}\}|\{([^{}|]*)(?:\|([^{}]*))?\}")
_GROUP = re.compile(r"(?:int:)?(\w+)")
_MAX_TEXT = 100_000  # characters


FAILURES = by_code(ProviderError)


class ScriptedCall(Model):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    arguments: dict[str, Any] = Field(default_factory=dict)


class ScriptedUsage(Model):
    input_tokens: int = Field(0, ge=0)
    output_tokens: int = Field(0, ge=0)
    cached_input_tokens: int = Field(0, ge=0)
    cache_write_tokens: int = Field(0, ge=0)
    reasoning_tokens: int = Field(0, ge=0)


class Step(Model):
    """One step of a script; `ScriptedProvider` says what each field means."""

    when: str | None = Field(None, max_length=1000)
    after: str | None = Field(None, max_length=64)
    failed: bool | None = None
    turn: int | None = Field(None, ge=1)
    round: int | None = Field(None, ge=1)
    times: int | None = Field(None, ge=1)
    always: bool = False
    text: str = Field("", max_length=_MAX_TEXT)
    reasoning: str = Field("", max_length=_MAX_TEXT)
    tool_calls: tuple[ScriptedCall, ...] = Field((), max_length=64)
    delay: Duration = 0.0
    chunk_delay: Duration = 0.0
    chunk_size: int = Field(16, ge=1)
    fail: str | None = None
    retry_after: Duration | None = None
    cut_off: int | None = Field(None, ge=0)
    stop_reason: StopReason | None = None
    usage: ScriptedUsage | None = None
    _pattern: re.Pattern[str] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.text or self.reasoning or self.tool_calls or self.fail):
            raise ValueError("does nothing: give it text, reasoning, tool_calls or fail")
        if self.fail is not None and self.fail not in FAILURES:
            raise ValueError(f"fail: {self.fail!r} is no provider error; use one of {', '.join(sorted(FAILURES))}")
        if self.always and (self.after is not None or self.failed is not None):
            raise ValueError("always fits user messages and tool results alike: remove after and failed")
        if self.failed is not None and self.after is None:
            raise ValueError("failed tells about a tool's result: add after")
        try:
            self._pattern = None if self.when is None else re.compile(self.when)
        except re.error as error:
            raise ValueError(f"when: is no regular expression: {error}") from error
        self._check_templates((self.text, self.reasoning, [call.arguments for call in self.tool_calls]))
        return self

    def _check_templates(self, value: Any) -> None:
        if isinstance(value, Mapping):
            value = list(value.values())
        if isinstance(value, list | tuple):
            for item in value:
                self._check_templates(item)
        if not isinstance(value, str):
            return
        for match in _SLOT.finditer(value):
            name = match[1]
            if name is None or name in ("user", "result") or name.startswith("json:"):
                continue
            if not (group := _GROUP.fullmatch(name)) or not self._has_group(group[1]):
                raise ValueError(
                    f"template {{{name}}} is not known: use {{user}}, {{result}}, {{json:path}}, or a group of `when`; "
                    "write {{ and }} for braces"
                )

    def _has_group(self, name: str) -> bool:
        if self._pattern is None:
            return False
        return int(name) <= self._pattern.groups if name.isdigit() else name in self._pattern.groupindex

    def fit(self, scene: "Scene") -> "Filler | None":
        """Return what fills this step's templates where the step fits `scene`, else None."""
        if self.turn not in (None, scene.turn) or self.round not in (None, scene.round):
            return None
        result = scene.result(self.after)
        if not self.always and (self.after is None) != (not scene.results):
            return None
        if self.after is not None and (result is None or self.failed not in (None, result.is_error)):
            return None
        found = self._pattern.search(scene.user) if self._pattern else None
        if self._pattern and not found:
            return None
        return Filler(scene.user, _text(result) if result else "", found)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the conversation stands: the last user text, and the results of the tools just called (none: it is the
    user's message that waits for an answer). `turn` counts user messages, `round` the model's calls since the last."""

    user: str
    results: tuple[ToolResultPart, ...]
    turn: int
    round: int

    def result(self, tool: str | None) -> ToolResultPart | None:
        """Return the last result of `tool` (None or `*`: of any tool)."""
        return next((item for item in reversed(self.results) if tool in (None, ANY, item.name)), None)


def scene_of(messages: Sequence[Message]) -> Scene:
    last_user = max((i for i, message in enumerate(messages) if message.role == "user"), default=-1)
    rounds = 1 + sum(message.role == "assistant" for message in messages[last_user + 1 :])
    results: list[ToolResultPart] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        results[:0] = [part for part in message.parts if isinstance(part, ToolResultPart)]
    return Scene(
        user=messages[last_user].text if last_user >= 0 else "",
        results=tuple(results),
        turn=sum(message.role == "user" for message in messages),
        round=rounds,
    )


@dataclass(frozen=True, slots=True)
class Filler:
    """Fills templates."""

    user: str
    result: str
    match: re.Match[str] | None

    def text(self, template: str) -> str:
        return _SLOT.sub(lambda slot: _as_text(self._slot(slot)), template)

    def value(self, template: Any) -> Any:
        """Fill a JSON value. A text that is one template alone keeps the type of what it stands for."""
        if isinstance(template, Mapping):
            return {name: self.value(item) for name, item in template.items()}
        if isinstance(template, list | tuple):
            return [self.value(item) for item in template]
        if not isinstance(template, str):
            return template
        whole = _SLOT.fullmatch(template)
        return self._slot(whole) if whole and whole[1] is not None else self.text(template)

    def _slot(self, slot: re.Match[str]) -> Any:
        name, default = slot[1], slot[2] or ""
        if name is None:
            return slot[0][0]  # {{ or }}
        if name == "user":
            return self.user or default
        if name == "result":
            return self.result or default
        if name.startswith("json:"):
            found = _at(_json_in(self.result), name.removeprefix("json:"))
            return default if found is None else found
        group = name.removeprefix("int:")
        text = self.match[int(group) if group.isdigit() else group] if self.match else None
        if text is None:
            return default
        return int(text) if name.startswith("int:") and re.fullmatch(r"-?\d{1,18}", text) else text


def _text(result: ToolResultPart) -> str:
    return unframed("\n".join(part.text for part in result.content if isinstance(part, TextPart)))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json_in(text: str) -> Any:
    """Return the first JSON object or array in `text` (a tool may put a line of its own before it), or None."""
    start = re.search(r"[{\[]", text)
    if start is None:
        return None
    try:
        return json.JSONDecoder().raw_decode(text, start.start())[0]
    except (ValueError, RecursionError):
        return None


def _at(value: Any, path: str) -> Any:
    for key in path.split(".") if path else ():
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def load_steps(models: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, tuple[Step, ...]]:
    """Return the validated scripts. Raises ConfigurationError naming every field that is wrong."""
    scripts: dict[str, tuple[Step, ...]] = {}
    errors: list[FieldError] = []
    for model, steps in models.items():
        path = f"providers.scripted.models.{model}"
        if isinstance(steps, str | Mapping) or not isinstance(steps, Sequence):
            errors.append(FieldError(path, "must be a list of steps"))
            continue
        loaded: list[Step] = []
        for number, step in enumerate(steps):
            try:
                loaded.append(Step.model_validate(step))
            except ValidationError as invalid:
                errors.extend(_field_errors(invalid, f"{path}.{number}"))
        scripts[model] = tuple(loaded)
    if errors:
        raise ConfigurationError("The script is wrong", errors=errors)
    return scripts


def _field_errors(invalid: ValidationError, path: str) -> list[FieldError]:
    return [
        FieldError(".".join([path, *map(str, error["loc"])]), error["msg"].removeprefix("Value error, "))
        for error in invalid.errors(include_url=False, include_input=False)
    ]

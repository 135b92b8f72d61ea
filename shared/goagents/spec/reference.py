"""Writes `docs/configuration.md` from the models: `python -m goagents.spec.reference > docs/configuration.md`."""

import json
import sys
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from .cluster import AgentCluster
from .config import Config
from .models import ALIASES, RETIRED
from .types import Duration, Size, format_duration, format_size

_INTRODUCTION = """\
# Configuration

<!-- Generated from the models by `python -m goagents.spec.reference`; change the models, not this page. -->

One format, YAML or JSON, in one file or several, one document or several (`---`): the configuration of the server
(`server`, `providers`, …) and the clusters it serves (`kind: AgentCluster`). `goagents validate FILE…` checks files,
`goagents schema` prints the JSON Schema for your editor.

```yaml
server:
  log_level: info
providers:
  anthropic:
    api_key: "${ANTHROPIC_API_KEY}"
---
apiVersion: goagents.dev/v1
kind: AgentCluster
metadata:
  name: customer-support
spec:
  agents:
    - name: intent-classifier
      provider: anthropic
      model: claude-sonnet
      system_prompt: You are an expert customer intent classifier.
```

Every error is reported at once, with its place: `FILE:LINE:COLUMN: path.to.field: what is wrong`. An unknown field is
an error that names the nearest known one: nothing is ignored.

## Values

| kind | written as |
|---|---|
| duration | `300ms`, `30s`, `5m`, `1h`, `1h30m`; a plain number is seconds |
| size | `64KiB`, `1MiB`; a plain number is bytes |
| name | lower-case letters, digits and `-`, at most 63 (a DNS label) |

YAML is read as version 1.2: `yes`, `on` and `12:30` are texts. Anchors, aliases and `<<` work; tags do not.

## References

| written | means |
|---|---|
| `${VAR}` | the environment variable `VAR` |
| `${VAR:-default}` | the same, or `default` where it is not set; a default may hold references |
| `$${` | a literal `${` |

A variable set to the empty text counts as not set. In the configuration, references are resolved when a file is read:
an optional field whose variable is not set is absent, a required one is an error. The strings of a cluster keep their
references; they are resolved where they are used, never stored resolved, never logged and never returned by the API.
Two fields are the exception: `provider` and `model` are resolved when a file is read (and take no reference in a
cluster sent over HTTP). JSON Schemas (`parameters`, `output_schema`) hold no references. `${secret:NAME}` and
`${aws-secret:NAME}` are known, and refused in this version.

Relative paths (`server.tls`, `ca_bundle`, an `openapi` file) start at the folder of the file they stand in.

**What a posted cluster may do.** A cluster in a file given to `goagents run` is trusted. In one received over HTTP,
references resolve only the names on the server's `allow` list; commands and files of the server are refused, unless the
server's configuration defines them by name (`mcp_servers`), and so is Python code that `allow.python` and
`allow.tool_types` do not name.

"""


def reference() -> str:
    """Return the page as Markdown."""
    lines = [_INTRODUCTION, "## The server's configuration\n"]
    lines += _tables(Config, "")
    lines.append("## AgentCluster\n")
    lines += _tables(AgentCluster, "")
    lines.append(_models())
    return "\n".join(lines).rstrip() + "\n"


def _models() -> str:
    rows = "\n".join(f"| `{name}` | `{target}` |" for name, target in sorted(ALIASES.items()))
    retired = ", ".join(f"`{name}` ({day})" for name, day in sorted(RETIRED.items(), key=lambda item: item[::-1]))
    return (
        "## Models\n\n"
        "`models` maps your aliases to the providers' ids, and goes before the built-in aliases below. A name that is "
        "no alias is passed to the provider as it is.\n\n"
        f"| alias | id |\n|---|---|\n{rows}\n\n"
        f"The vendors announced an end for these; `goagents validate` and `goagents run` warn about them: {retired}.\n"
    )


def _tables(model: type[BaseModel], path: str) -> Iterator[str]:
    """Yield the table of `model`, then those of the models in it, in order."""
    if path:
        yield f"### `{path}`\n"
    if model.__doc__ and path:
        yield f"{_line(model.__doc__)}\n"
    yield "| field | type | default | |"
    yield "|---|---|---|---|"
    for name, field in model.model_fields.items():
        yield f"| `{field.alias or name}` | {_type(field)} | {_default(field)} | {_line(field.description or '')} |"
    yield ""
    for name, field in model.model_fields.items():
        for suffix, inner in _models_in(field.annotation):
            yield from _tables(inner, f"{path}{'.' if path else ''}{field.alias or name}{suffix}")


def _models_in(annotation: Any, suffix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the models that `annotation` is made of, with what their path adds: `[]` in lists, `.NAME` in mappings."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield suffix, annotation
        return
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _models_in(members[0], suffix)
    elif origin in (tuple, list):
        yield from _models_in(members[0], f"{suffix}[]")
    elif origin is dict:
        yield from _models_in(members[1], f"{suffix}.NAME")
    elif origin in (Union, UnionType):
        found = [member for member in members if member is not type(None)]
        for member in found:
            tag = get_args(member.model_fields["type"].annotation)[0] if len(found) > 1 else None
            yield from _models_in(member, f"{suffix} (type: {tag})" if tag else suffix)


def _type(field: FieldInfo) -> str:
    annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return _type_name(annotation)


def _type_name(annotation: Any) -> str:
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotated_name(annotation)
    if origin in (Union, UnionType):
        found = [member for member in members if member is not type(None)]
        return _type_name(found[0]) if len(found) == 1 else "mapping"
    if origin is Literal:
        return " \\| ".join(f"`{value}`" for value in members)
    if origin in (tuple, list):
        return f"list of {_plural(_type_name(members[0]))}"
    if origin is dict:
        return "mapping" if members[1] is Any else f"mapping of names to {_plural(_type_name(members[1]))}"
    names = {str: "text", int: "number", float: "number", bool: "`true` \\| `false`", SecretStr: "secret text"}
    return names.get(annotation, "mapping")


def _annotated_name(annotation: Any) -> str:
    metadata = annotation.__metadata__
    for kind, name in ((Duration, "duration"), (Size, "size")):
        if get_args(kind)[1] in metadata:
            return name
    return _type_name(annotation.__origin__)


def _plural(name: str) -> str:
    if name.startswith("`"):
        return name
    if name.startswith("list of "):
        return name.replace("list of", "lists of", 1)
    return f"{name}s"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    if field.default is PydanticUndefined or field.default in (None, ()):
        return ""
    kind = _type(field)
    if kind == "duration":
        return f"`{format_duration(field.default)}`"
    if kind == "size":
        return f"`{format_size(field.default)}`"
    return f"`{json.dumps(field.default)}`" if not isinstance(field.default, str) else f"`{field.default}`"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())

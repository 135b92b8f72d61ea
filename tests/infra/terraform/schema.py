"""The schema of the google provider, as far as infra/terraform uses it, taken from npm's @cdktf/provider-google.

The provider itself cannot be had where the tests run; the package was generated from its schema (6.50.0). What is
committed (google.json) is what this makes of it:

    python -m tests.infra.terraform.schema

Run it after infra/terraform uses a new type of resource. From the package's declarations (.d.ts) come names, types,
what is required and, where it says so, which values there are; from its code (.js) what is a block and what is a set.
Not known there, and so not checked: which optional attributes the provider fills in (all that are simple and at the top
count as such), what excludes what, and values whose form is told in words only.
"""

import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
TERRAFORM = ROOT / "infra" / "terraform"
SCHEMA = Path(__file__).with_name("google.json")
PACKAGE = "@cdktf/provider-google@16.12.1"
PROVIDER = "6.50.0"

_USED = re.compile(r'^\s*(resource|data) "(google_\w+)"', re.MULTILINE)
_SIMPLE = {
    "string": "string",
    "number": "number",
    "boolean": "bool",
    "cdktf.IResolvable": "bool",
    "cdktf.StringMap": ["map", "string"],
    "string[]": ["list", "string"],
    "number[]": ["list", "number"],
}
_MEMBER = re.compile(r"/\*\*((?:(?!\*/).)*?#(\w+) \w+#\2\}.*?)\*/\s*readonly \w+(\??): (\{.*?\}|[^;]+);", re.DOTALL)
_VALUES = re.compile(r'Possible values: (\["[^\]]*\])')
_FIELD = re.compile(r'\n +(\w+): \{\n +value: .*?\n +isBlock: (true|false),\n +type: "(\w+)"')


def used() -> set[tuple[str, str]]:
    """Return kind and type of all that infra/terraform has."""
    return {
        (found[1], found[2])
        for path in TERRAFORM.rglob("*.tf")
        if ".terraform" not in path.parts
        for found in _USED.finditer(path.read_text(encoding="utf-8"))
    }


class Module:
    """A folder of the package: one resource or data source."""

    def __init__(self, types: str, code: str) -> None:
        self._interfaces = {
            found[1]: found[2]
            for found in re.finditer(r"export interface (\w+)(?: extends [\w.]+)? \{\n(.*?)\n\}", types, re.DOTALL)
        }
        self._classes = {
            found[1]: found[2]
            for found in re.finditer(r"export declare class (\w+) extends [\w.]+ \{\n(.*?)\n\}", types, re.DOTALL)
        }
        self._shapes = {
            found[1].lower(): _FIELD.findall(found[2])
            for found in re.finditer(r"\nfunction (\w+)ToHclTerraform\(struct\) \{(.*?)\n\}\n", code, re.DOTALL)
        }
        top = code[code.index("synthesizeHclAttributes()") :]
        self._top = _FIELD.findall(top)
        self._snake = {_camel(name): name for name in re.findall(r"// (\w+) - computed: ", code)}

    def block(self, name: str, owner: str, *, top: bool = False) -> dict[str, Any]:
        """Return the block that the interface `name` describes; `owner` is the class that has its computed members."""
        shape = {field: (block == "true", kind) for field, block, kind in (self._top if top else self._shape(name))}
        attributes: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        for about, field, optional, written in _MEMBER.findall(self._interfaces[name]):
            is_block, kind = shape[field]
            kinds = written.removesuffix(" | cdktf.IResolvable").strip()
            if is_block:
                inner = kinds.removesuffix("[]")
                single = kind == "struct"
                blocks[field] = {
                    "nesting": "single" if single else kind,
                    "min": 0 if optional or single else 1,
                    "max": 0 if kinds.endswith("[]") or single else 1,
                    "block": self.block(inner, f"{inner}OutputReference"),
                }
                continue
            filled_in = top and kind == "simple"
            attributes[field] = {"type": _type(kinds, kind), "is": _is(required=not optional, computed=filled_in)}
            if (found := _VALUES.search(about)) and attributes[field]["type"] == "string":
                attributes[field]["values"] = json.loads(found[1])
        for field, kind in self._computed(owner):
            if field not in attributes and field not in blocks:
                attributes[field] = {"type": kind, "is": "computed"}
        return {"attributes": attributes, "blocks": blocks}

    def _shape(self, name: str) -> list[tuple[str, str, str]]:
        return self._shapes[name.lower()]

    def _computed(self, owner: str) -> Iterator[tuple[str, Any]]:
        body = self._classes.get(owner, "")
        for camel, written in re.findall(r"\n {4}get (\w+)\(\): ([^;]+);", "\n" + body):
            settable = f"set {camel}(" in body
            if camel in self._snake and not settable and written in _SIMPLE:
                yield self._snake[camel], _SIMPLE[written]


def _is(*, required: bool, computed: bool) -> str:
    if required:
        return "required"
    return "optional computed" if computed else "optional"


def _type(written: str, kind: str) -> Any:
    if written.startswith("{"):
        value = re.search(r"\]: ([^;]+);", written)
        of = _SIMPLE.get(value[1].split(" | ")[0].strip(), "string") if value else "string"
        return ["map", of]
    found = _SIMPLE.get(written.split(" | ", maxsplit=1)[0], "dynamic")
    return ["set", found[1]] if kind == "set" and isinstance(found, list) else found


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def extract(package: Path) -> dict[str, Any]:
    """Return the schema of what is used. Raises KeyError where the package does not have it."""
    found: dict[str, Any] = {"version": PROVIDER, "resource": {}, "data": {}}
    folders = package / "lib"
    for kind, type_ in sorted(used() | {("provider", "google")}):
        name = type_.removeprefix("google_").replace("_", "-")
        folder = {"data": f"data-google-{name}", "provider": "provider"}.get(kind, name)
        code = (folders / folder / "index.js").read_text(encoding="utf-8")
        module = Module((folders / folder / "index.d.ts").read_text(encoding="utf-8"), code)
        own = re.search(r"\nclass (\w+) extends cdktf\.Terraform(?:Resource|DataSource|Provider) ", code)
        if own is None:
            raise KeyError(f"{folder}: there is no resource in it")
        block = module.block(f"{own[1]}Config", own[1], top=True)
        if kind == "provider":
            found["provider"] = block
        else:
            found[kind][type_] = block
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--pack-destination", folder, PACKAGE]
        subprocess.run(command, check=True, timeout=300, cwd=folder)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        schema = extract(Path(folder) / "package")
    lines = [f'"version": "{PROVIDER}"', f'"provider": {_text(schema["provider"])}']
    for kind in ("resource", "data"):
        entries = ",\n".join(f"{json.dumps(name)}: {_text(block)}" for name, block in schema[kind].items())
        lines.append(f'"{kind}": {{\n{entries}\n}}')
    SCHEMA.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    sys.stdout.write(f"{SCHEMA.name}: {len(schema['resource'])} resources, {SCHEMA.stat().st_size} bytes\n")
    return 0


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


if __name__ == "__main__":
    sys.exit(main())

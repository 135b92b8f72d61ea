"""A provider that has the google provider's schema and nothing behind it, for `terraform validate`, `plan` and `test`.

It is started by Terraform, in an environment of its own (provider-requirements.txt), and serves google.json. It refuses
values that there are not, plans what is configured, leaves what the real one fills in to be known after apply, finds
whatever is imported, and refuses to apply.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# Where `tf` keeps the certificate that Terraform and it agree on.
os.environ["HOME"] = os.environ.get("GOAGENTS_PROVIDER_HOME", str(HERE))

import msgpack  # noqa: E402 - HOME is set before
import tf.provider  # noqa: E402 - the same
from tf.gen import tfplugin_pb2 as pb  # noqa: E402 - the same
from tf.gen import tfplugin_pb2_grpc as rpc  # noqa: E402 - the same
from tf.runner import run_provider  # noqa: E402 - the same

Block = dict[str, Any]
_SCHEMA = json.loads((HERE / "google.json").read_text(encoding="utf-8"))
_UNKNOWN = msgpack.ExtType(0, b"\0")
_NESTING = {
    "single": pb.Schema.NestedBlock.SINGLE,
    "list": pb.Schema.NestedBlock.LIST,
    "set": pb.Schema.NestedBlock.SET,
}
_PROJECT_NUMBER = "123456789012"


def _block(block: Block) -> Any:
    attributes = [
        pb.Schema.Attribute(
            name=name,
            type=json.dumps(each["type"]).encode(),
            required="required" in each["is"],
            optional="optional" in each["is"],
            computed="computed" in each["is"],
        )
        for name, each in sorted(block["attributes"].items())
    ]
    nested = [
        pb.Schema.NestedBlock(
            type_name=name,
            block=_block(each["block"]),
            nesting=_NESTING[each["nesting"]],
            min_items=each["min"],
            max_items=each["max"],
        )
        for name, each in sorted(block["blocks"].items())
    ]
    return pb.Schema.Block(attributes=attributes, block_types=nested)


def _schemas(kind: str) -> dict[str, Any]:
    return {name: pb.Schema(version=0, block=_block(block)) for name, block in _SCHEMA[kind].items()}


def _unpacked(value: Any) -> Any:
    return msgpack.unpackb(value.msgpack, ext_hook=msgpack.ExtType, strict_map_key=False)


def _packed(value: Any) -> Any:
    return pb.DynamicValue(msgpack=msgpack.packb(value))


def _planned(block: Block, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state with what the provider fills in as unknown."""
    for name, each in block["attributes"].items():
        if "computed" in each["is"] and state.get(name) is None:
            state[name] = _UNKNOWN
    for name, nested in block["blocks"].items():
        value = state.get(name)
        for inner in [value] if isinstance(value, dict) else value if isinstance(value, list) else ():
            if isinstance(inner, dict):
                _planned(nested["block"], inner)
    return state


def _wrong(block: Block, state: dict[str, Any], place: str) -> Iterator[str]:
    """Yield what is set to a value that there is not."""
    for name, each in block["attributes"].items():
        value = state.get(name)
        if "values" in each and isinstance(value, str) and value and value not in each["values"]:
            yield f'{place}{name}: "{value}" is none of {", ".join(each["values"])}'
    for name, nested in block["blocks"].items():
        value = state.get(name)
        for inner in [value] if isinstance(value, dict) else value if isinstance(value, list) else ():
            if isinstance(inner, dict):
                yield from _wrong(nested["block"], inner, f"{place}{name}.")


def _named(block: Block, name: str) -> dict[str, Any]:
    """Return the state of what has this name, `projects/P/databases/D/…`: what its name says, and nothing else."""
    state: dict[str, Any] = dict.fromkeys(block["attributes"])
    state |= {nested: None if each["nesting"] == "single" else [] for nested, each in block["blocks"].items()}
    parts = name.split("/")
    told = dict(zip(parts[::2], parts[1::2], strict=True))
    known = {"id": name, "project": told.get("projects"), "collection": told.get("collectionGroups")}
    known |= {"database": told.get("databases"), "name": name if "indexes" in told else told.get("databases")}
    return state | {attribute: value for attribute, value in known.items() if attribute in state}


class Schemas(rpc.ProviderServicer):
    """The provider's side of Terraform's plugin protocol, version 6. Names are the protocol's."""

    def __init__(self, _: Any) -> None:
        pass

    def GetMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        answer = pb.GetMetadata.Response()
        answer.server_capabilities.get_provider_schema_optional = True
        for name in _SCHEMA["resource"]:
            answer.resources.add(type_name=name)
        for name in _SCHEMA["data"]:
            answer.data_sources.add(type_name=name)
        return answer

    def GetProviderSchema(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        provider = pb.Schema(version=0, block=_block(_SCHEMA["provider"]))
        return pb.GetProviderSchema.Response(
            provider=provider, resource_schemas=_schemas("resource"), data_source_schemas=_schemas("data")
        )

    def ValidateProviderConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        answer = pb.ValidateResourceConfig.Response()
        for text in _wrong(_SCHEMA["resource"][request.type_name], _unpacked(request.config), ""):
            answer.diagnostics.add(severity=pb.Diagnostic.ERROR, summary=text)
        return answer

    def ValidateDataResourceConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        return pb.ValidateDataResourceConfig.Response()

    def ConfigureProvider(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        return pb.ConfigureProvider.Response()

    def PlanResourceChange(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        proposed = _unpacked(request.proposed_new_state)
        if proposed is not None:
            proposed = _planned(_SCHEMA["resource"][request.type_name], proposed)
        return pb.PlanResourceChange.Response(planned_state=_packed(proposed))

    def ApplyResourceChange(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        answer = pb.ApplyResourceChange.Response()
        answer.diagnostics.add(severity=pb.Diagnostic.ERROR, summary="There is only a schema here: nothing is applied.")
        return answer

    def ReadDataSource(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        state = _unpacked(request.config)
        if request.type_name == "google_project":
            state["number"] = _PROJECT_NUMBER
        return pb.ReadDataSource.Response(state=_packed(state))

    def UpgradeResourceState(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        state = json.loads(request.raw_state.json)
        return pb.UpgradeResourceState.Response(upgraded_state=_packed(state))

    def ReadResource(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        return pb.ReadResource.Response(new_state=request.current_state)

    def ImportResourceState(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        state = _named(_SCHEMA["resource"][request.type_name], request.id)
        answer = pb.ImportResourceState.Response()
        answer.imported_resources.add(type_name=request.type_name, state=_packed(state))
        return answer

    def StopProvider(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        return pb.StopProvider.Response()

    def GetFunctions(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's
        return pb.GetFunctions.Response()


if __name__ == "__main__":
    # The library would build its own from Python classes, which cannot say what a vendor's schema says.
    tf.provider.ProviderServicer = Schemas
    run_provider(None, [sys.argv[0]])

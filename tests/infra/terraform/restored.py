"""A database that gcloud restored, taken in by Terraform: what is there already is imported, nothing is deleted."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from goagents.store.indexes import INDEXES

from . import planned

NAME = "goagents-restored"
ADDRESS = f'module.goagents.module.firestore["{NAME}"]'
ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "docs" / "operations.md", ROOT / "infra" / "terraform" / "README.md")
_ADDRESS = re.compile(r"(?:'|-target=)(module\.[^'\s]+)")
_OF = f"projects/my-project/databases/{NAME}"
Plan = dict[str, Any]


def listing() -> str:
    """Return what `gcloud firestore indexes composite list --format=json` says: one more than is needed, too."""
    wanted = [(index.collection, [*index.fields], index.descending) for index in INDEXES if len(index.fields) > 1]
    listed = []
    for number, (collection, names, descending) in enumerate([*wanted, ("runs", ["of", "another"], False)]):
        last = "DESCENDING" if descending else "ASCENDING"
        orders = ["ASCENDING"] * (len(names) - 1) + [last]
        fields = [*zip(names, orders, strict=True), ("__name__", last)]
        listed.append(
            {
                "name": f"{_OF}/collectionGroups/{collection}/indexes/CICAg{number}",
                "queryScope": "COLLECTION",
                "fields": [{"fieldPath": name, "order": order} for name, order in fields],
                "state": "READY",
            }
        )
    return json.dumps(listed)


def unknown_addresses(plan: Plan) -> list[str]:
    """Return the addresses that the pages name, to type them, and that a plan does not have."""
    there = {each["address"] for each in plan["resource_changes"]}
    named = {address for page in PAGES for address in _ADDRESS.findall(page.read_text(encoding="utf-8"))}
    assert len(named) >= 3, named
    return sorted(
        f"there is no {address}, and a page names it"
        for address in named
        if not any(each == address or each.startswith(f"{address}.") for each in there)
    )


def faults(plan: Plan) -> Iterator[str]:
    """Yield what would be made anew, be deleted, or not be looked after."""
    changes = plan["resource_changes"]
    yield from (f"{each['address']} would be deleted" for each in changes if "delete" in each["change"]["actions"])
    imported = {each["address"]: each["change"]["importing"]["id"] for each in changes if "importing" in each["change"]}
    wanted = {f"{ADDRESS}.google_firestore_database.this": _OF}
    for each in json.loads(listing())[:-1]:
        collection, fields = each["name"].split("/")[5], each["fields"][:-1]
        key = "-".join([collection, *(f"{field['fieldPath']}.{field['order'].lower()}" for field in fields)])
        wanted[f'{ADDRESS}.google_firestore_index.composite["{key}"]'] = each["name"]
    if differ := sorted(wanted.items() ^ imported.items()):
        yield f"imported, or not: {differ}"
    made = {each["address"] for each in changes if "create" in each["change"]["actions"]}
    if twice := sorted(made & wanted.keys()):
        yield f"there already, and would be made: {', '.join(twice)}"
    for kind in ("google_firestore_field", "google_firestore_backup_schedule"):
        if not any(address.startswith(f"{ADDRESS}.{kind}.") for address in made):
            yield f"a backup brings no {kind}, and none would be made"
    if plan["planned_values"]["outputs"]["store"]["value"] != f"firestore://my-project/{NAME}":
        yield "the functions are told of another one"
    if {each["name"] for each in planned.values(plan, "google_firestore_database")} != {"(default)", NAME}:
        yield "the old one is not kept"


def unnoticed(plan: Plan) -> list[str]:
    """Return the defects of this plan that no check finds: each is planted by itself."""

    def change_of(plan: Plan, rest: str) -> dict[str, Any]:
        found: dict[str, Any] = next(
            each["change"] for each in plan["resource_changes"] if each["address"].startswith(f"{ADDRESS}.{rest}")
        )
        return found

    def forget(plan: Plan, kind: str) -> None:
        plan["resource_changes"] = [
            each for each in plan["resource_changes"] if not each["address"].startswith(f"{ADDRESS}.{kind}.")
        ]

    database, index = "google_firestore_database.this", "google_firestore_index.composite"
    planted: dict[str, Callable[[Plan], object]] = {
        "a database made anew": lambda plan: change_of(plan, database).pop("importing"),
        "an index made anew": lambda plan: change_of(plan, index).pop("importing"),
        "the index of another": lambda plan: change_of(plan, index)["importing"].update(id="another"),
        "made, though imported": lambda plan: change_of(plan, index).update(actions=["create"]),
        "something deleted": lambda plan: plan["resource_changes"][0]["change"].update(actions=["delete", "create"]),
        "no TTL": lambda plan: forget(plan, "google_firestore_field"),
        "no backups": lambda plan: forget(plan, "google_firestore_backup_schedule"),
        "not served": lambda plan: plan["planned_values"]["outputs"]["store"].update(value="firestore://my-project/a"),
        "the old one gone": lambda plan: planned.values(plan, "google_firestore_database")[0].update(name="another"),
    }
    missed = []
    for name, plant in planted.items():
        broken = copy.deepcopy(plan)
        plant(broken)
        if not list(faults(broken)):
            missed.append(name)
    return missed

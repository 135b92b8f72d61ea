"""What the code needs is in infra/terraform: functions, indexes, TTL fields, secrets, variables.

Read from the files, without Terraform; `python -m tests.ci.terraform` plans them. Each rule finds what is planted.
"""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.infra.terraform.schema import SCHEMA, TERRAFORM, used
from tests.infra.terraform.sources import block, blocks, literal, read

from goagents import records
from goagents.app import FUNCTIONS
from goagents.deploy import indexes
from goagents.deploy.catalogue import Function, catalogue
from goagents.deploy.plan_store import expiring_collections
from goagents.deploy.target import MAX_INSTANCES
from goagents.spec.check import KEY_VARIABLES
from goagents.store.indexes import EXEMPT_FIELDS, INDEXES

ROOT = Path(__file__).parents[3]
CATALOGUE = ROOT / "shared" / "goagents" / "deploy" / "functions.json"
CONFIG = ROOT / "infra" / "gcp" / "config.yaml"
# The quota of a service in a region where the project is new, memory in GiB (googlecodelabs/feedback#1856).
FIRST_CPUS, FIRST_MEMORY = 20, 40
WANTED = json.loads((TERRAFORM / "modules" / "firestore" / "indexes.json").read_text(encoding="utf-8"))


# Functions


def unserved(folders: set[str], catalogue: set[str]) -> set[str]:
    """Return what is a function and not deployed, or the other way round."""
    return folders ^ catalogue


def test_every_function_is_deployed():
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/main.py")}
    described = set(json.loads(CATALOGUE.read_text(encoding="utf-8"))["functions"])
    assert unserved(folders, described) == set()
    assert unserved(folders | {"new"}, described) == {"new"}
    assert folders == set(FUNCTIONS)


def test_the_services_are_made_of_that_file():
    main = read(TERRAFORM / "main.tf")
    values = {name: value for each in main["locals"] for name, value in each.items()}
    place = re.search(r'file\("\$\{path\.module\}/([^"]+)"\)', values["catalogue"])
    assert place is not None
    assert (TERRAFORM / place[1]).resolve() == CATALOGUE
    # One or the other, and nothing left out of either.
    assert re.sub(r"\s", "", values["functions"]) == (
        "${{forname,functioninlocal.catalogue:name=>functioniffunction.standard!=var.gateway_only}}"
    )
    assert main_module("functions")["functions"] == "${local.functions}"
    service = block(TERRAFORM / "modules" / "functions" / "main.tf", "resource", "google_cloud_run_v2_service", "this")
    assert service["for_each"] == "${local.services}"


def unfit(functions: Mapping[str, Function], most: int) -> list[str]:
    """Return the functions of which so many instances are too many for a project's first quota in a region."""
    found = []
    for name, function in functions.items():
        memory = {"Mi": 1, "Gi": 1024}[function.memory[-2:]] * int(function.memory[:-2])
        if most * float(function.cpu) > FIRST_CPUS or most * memory > FIRST_MEMORY * 1024:
            found.append(name)
    return found


def test_the_most_instances_are_the_same_everywhere_and_within_a_new_projects_quota():
    """Cloud Run refuses a service whose most instances would take more than the region's quota."""
    assert unfit(catalogue(), MAX_INSTANCES) == []
    assert set(unfit(catalogue(), 100)) == set(catalogue()), "what was once the default"
    assert block(TERRAFORM / "variables.tf", "variable", "max_instances")["default"] == MAX_INSTANCES
    for path in (TERRAFORM / "examples").glob("*/main.tf"):
        given = block(path, "module", "goagents").get("max_instances", MAX_INSTANCES)
        assert unfit(catalogue(), given) == [], path
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"`max_instances` ({MAX_INSTANCES})" in page


def main_module(name: str) -> dict[str, Any]:
    return block(TERRAFORM / "main.tf", "module", name)


# Firestore


def unindexed(needed: list[tuple[str, list[str], bool]], made: list[dict[str, Any]]) -> list[str]:
    """Return the indexes that queries need and nobody makes."""
    there = [(each["collection"], [(f["field"], f["order"]) for f in each["fields"]]) for each in made]
    missing = []
    for collection, fields, descending in needed:
        last = "DESCENDING" if descending else "ASCENDING"
        wanted = [(name, "ASCENDING") for name in fields[:-1]] + [(fields[-1], last)]
        if len(fields) > 1 and (collection, wanted) not in there:
            missing.append(f"{collection}: {', '.join(fields)}")
    return missing


def test_every_query_has_its_index():
    needed = [(index.collection, list(index.fields), index.descending) for index in INDEXES]
    assert unindexed(needed, WANTED["indexes"]) == []
    assert unindexed([*needed, ("runs", ["agent", "created_at"], True)], WANTED["indexes"]) == [
        "runs: agent, created_at"
    ]
    assert unindexed(needed, WANTED["indexes"][1:]) != []


def test_the_file_of_indexes_is_what_the_code_says():
    path = TERRAFORM / "modules" / "firestore" / "indexes.json"
    assert path.read_text(encoding="utf-8") == indexes.text(), (
        f"run python -m goagents.deploy.indexes > {path.relative_to(ROOT)}"
    )


def test_indexes_and_fields_are_made_of_it():
    path = TERRAFORM / "modules" / "firestore" / "main.tf"
    values = {name: value for each in read(path)["locals"] for name, value in each.items()}
    assert 'file("${path.module}/indexes.json")' in values["wanted"]
    assert "local.wanted.indexes" in values["indexes"]
    assert "local.wanted.fields" in values["fields"]
    assert block(path, "resource", "google_firestore_index", "composite")["for_each"] == "${local.indexes}"
    field = block(path, "resource", "google_firestore_field", "exempt")
    assert field["for_each"] == "${local.fields}"
    assert "each.value.ttl" in str(field["dynamic"])


def collections() -> Iterator[tuple[str, type[records.Record]]]:
    """Yield the collections that the paths of records lead to, as records.py has them: none is named here."""
    paths = records.Paths("t")
    for name, method in inspect.getmembers(paths, inspect.ismethod):
        if name.startswith("_"):
            continue
        parameters = inspect.signature(method).parameters.values()
        path = method(*(1 if each.annotation in (int, "int") else "a" for each in parameters))
        parts = path.split("/")
        if len(parts) % 2 == 0:
            yield parts[-2], name


def test_every_collection_whose_documents_expire_has_its_ttl():
    made = {each["collection"] for each in WANTED["fields"] if each["ttl"]}
    assert made == set(expiring_collections())
    assert all(each["field"] == "expire_at" for each in WANTED["fields"] if each["ttl"])
    expiring = {
        name
        for name, record in inspect.getmembers(records, inspect.isclass)
        if issubclass(record, records.Record) and "expire_at" in record.model_fields
    }
    # `_parts` are the store's own.
    assert len(made - {"_parts"}) == len(expiring), (made, expiring)


def test_every_collection_is_known():
    fields = {each["collection"] for each in WANTED["fields"]}
    missing = {collection for collection, _ in collections()} - fields
    assert missing == set(), (
        f"{', '.join(missing)}: name the record in shared/goagents/deploy/plan_store.py, then run "
        "python -m goagents.deploy.indexes > infra/terraform/modules/firestore/indexes.json"
    )


def test_what_is_never_asked_for_is_exempt():
    exempt = {(each["collection"], each["field"]) for each in WANTED["fields"]}
    assert {field for _, field in exempt} <= set(EXEMPT_FIELDS)
    asked = {(index.collection, field) for index in INDEXES for field in index.fields}
    assert exempt & asked == set()


# Secrets and variables


def unprovided(config: str, secrets: Mapping[str, str], variables: set[str]) -> set[str]:
    """Return the variables that the configuration reads, and that neither a secret nor Terraform sets."""
    read_there = set(re.findall(r"\$\{([A-Z][A-Z0-9_]*)", config))
    return read_there - secrets.keys() - variables


def environment() -> set[str]:
    service = block(TERRAFORM / "modules" / "functions" / "main.tf", "resource", "google_cloud_run_v2_service", "this")
    given = set(re.findall(r"\b([A-Z][A-Z0-9_]+) = ", str(service["template"])))
    return given | {literal(name) for name in main_module("functions")["environment"]}


def secrets() -> dict[str, str]:
    found = block(TERRAFORM / "variables.tf", "variable", "secrets")["default"]
    return {literal(name): literal(value) for name, value in found.items()}


def test_every_secret_the_code_reads_has_its_place():
    assert set(KEY_VARIABLES.values()) <= secrets().keys()
    assert len(set(secrets().values())) == len(secrets())
    assert main_module("secrets")["secrets"] == "${var.secrets}"
    assert main_module("functions")["secrets"] == "${module.secrets.ids}"


def test_every_variable_of_the_configuration_is_set():
    config = CONFIG.read_text(encoding="utf-8")
    assert unprovided(config, secrets(), environment()) == set()
    assert unprovided(config + "\n  key: ${NEW_KEY:-}", secrets(), environment()) == {"NEW_KEY"}
    for variable in ("GOAGENTS_STORE", "GOAGENTS_CONFIG", "FUNCTION_TARGET", "FUNCTION_SOURCE", "GOOGLE_CLOUD_PROJECT"):
        assert variable in environment()


def test_what_the_deployment_sets_is_reserved():
    reserved = next(literal(each["reserved"]) for each in read(TERRAFORM / "main.tf")["locals"] if "reserved" in each)
    assert [name for name in (*environment(), "PORT", "K_SERVICE") if not re.fullmatch(reserved, name)] == []
    assert not [name for name in (*secrets(), "ORDERS_URL", "GOAGENTS_INTERNAL_KEY") if re.fullmatch(reserved, name)]
    for variable in ("environment", "secrets"):
        assert "local.reserved" in str(block(TERRAFORM / "variables.tf", "variable", variable)["validation"])


def test_no_secret_is_in_a_variable():
    assert not [name for name, _ in used() if name == "google_secret_manager_secret_version"]


# The rest


def test_the_schema_has_every_type():
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    missing = [name for kind, name in used() if name not in schema[kind]]
    assert missing == [], "run python -m tests.infra.terraform.schema"


@pytest.mark.parametrize("kind", ["variable", "output"])
def test_every_variable_and_output_says_what_it_is(kind: str):
    seen = 0
    for path in TERRAFORM.rglob("*.tf"):
        if ".terraform" in path.parts:
            continue
        for name, body in blocks(path, kind):
            seen += 1
            assert literal(body.get("description", "")).endswith("."), f"{path}: {name} has no description"
            assert kind == "output" or "type" in body, f"{path}: {name} has no type"
    assert seen > 20


def test_modules_name_no_project_and_no_region():
    """What differs from one deployment to the next is a variable."""
    for path in (TERRAFORM / "modules").rglob("*.tf"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r'"(europe|us|asia)-[a-z]+\d"', text), path
        assert "my-project" not in text, path

"""The plan of a deployment: complete, in an order that works, least privilege, and nothing public unless asked."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.gcloud_lint import gcloud_faults
from tests.support.google_project import ROOT, needs_gcloud

from goagents.app import FUNCTIONS
from goagents.deploy.catalogue import catalogue, select
from goagents.deploy.checks import check_configuration
from goagents.deploy.digest import digest
from goagents.deploy.plan import SERVICES, plan
from goagents.deploy.plan_functions import function_steps, unknown_callers
from goagents.deploy.plan_store import exempt_fields, expiring_collections
from goagents.deploy.release import arguments
from goagents.deploy.removal import Kept, removal
from goagents.deploy.steps import Step, batches
from goagents.deploy.target import CONFIG, RESERVED, Target
from goagents.errors import ConfigurationError, Invalid
from goagents.store.indexes import EXEMPT_FIELDS, INDEXES

SECRETS = {"ANTHROPIC_API_KEY": "anthropic-api-key", "SHOP_TOKEN": "shop:3"}


def target(*names: str, **changes: Any) -> Target:
    known = {"project": "my-project", "region": "europe-west1", "source": ROOT, "secrets": SECRETS, "number": "123"}
    return Target(functions=select(names), **(known | changes))


def by_id(steps: tuple[Step, ...]) -> dict[str, Step]:
    found = {step.id: step for step in steps}
    assert len(found) == len(steps), "two steps have one id"
    return found


def options(step: Step) -> dict[str, str]:
    return dict(part.removeprefix("--").partition("=")[::2] for part in step.argv if part.startswith("--"))


def granted(steps: tuple[Step, ...], account: str) -> set[str]:
    """The roles a service account gets, wherever."""
    member = f"--member=serviceAccount:goagents-{account}@my-project.iam.gserviceaccount.com"
    return {options(step)["role"] for step in steps if member in step.argv}


def test_the_catalogue_holds_every_function_and_no_other():
    assert set(catalogue()) == {path.parent.name for path in (ROOT / "functions").glob("*/main.py")} == set(FUNCTIONS)
    for function in catalogue().values():
        assert (ROOT / function.source).is_file()
        assert function.smoke.path.startswith("/")


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_a_function_is_deployed_with_what_the_catalogue_says(name: str):
    function, step = catalogue()[name], by_id(plan(target()))[f"function-{name}"]
    given = options(step)
    assert step.argv[:3] == ("functions", "deploy", f"goagents-{name}")
    assert (given["cpu"], given["memory"], given["concurrency"]) == (
        function.cpu,
        function.memory,
        str(function.concurrency),
    )
    assert given["timeout"] == f"{function.timeout}s"
    assert given["entry-point"] == name
    assert given["set-build-env-vars"] == f"GOOGLE_FUNCTION_SOURCE=functions/{name}/main.py"
    assert given["service-account"] == f"goagents-{name}@my-project.iam.gserviceaccount.com"
    assert "no-allow-unauthenticated" in given
    assert "allow-unauthenticated" not in given
    if function.models:
        assert given["set-secrets"] == "ANTHROPIC_API_KEY=anthropic-api-key:latest,SHOP_TOKEN=shop:3"
    else:
        assert "set-secrets" not in given
        assert "clear-secrets" in given


def test_each_function_has_the_rights_it_needs_and_no_more():
    steps = plan(target())
    for name, function in catalogue().items():
        expected = {"roles/datastore.user"} if function.store else set[str]()
        if function.dispatch:
            expected |= {"roles/cloudtasks.enqueuer", "roles/iam.serviceAccountUser"}
        if function.models:
            expected |= {"roles/secretmanager.secretAccessor"}
        assert granted(steps, name) == expected, name
    assert granted(steps, "invoker") == {"roles/run.invoker"}
    on_project = [step for step in steps if step.argv[:2] == ("projects", "add-iam-policy-binding")]
    assert {options(step)["role"] for step in on_project} == {
        "roles/datastore.user",
        *("roles/artifactregistry.writer", "roles/logging.logWriter", "roles/storage.objectViewer"),
    }


def test_who_may_call():
    steps = by_id(plan(target(invokers=("user:ann@example.com",))))
    called = {name.split("-")[1] for name in steps if name.endswith("user:ann@example.com")}
    assert called == {name for name, function in catalogue().items() if function.called_by == "users"}
    invoker = "serviceAccount:goagents-invoker@my-project.iam.gserviceaccount.com"
    assert {name for name in steps if name.endswith(invoker)} == {f"call-worker-{invoker}", f"call-sweeper-{invoker}"}
    assert not [step for step in steps.values() if "--member=allUsers" in step.argv]


def test_everybody_may_call_only_where_the_configuration_asks_for_keys(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="--allow-unauthenticated lets in everybody"):
        check_configuration(target(allow_unauthenticated=True))
    keys = f'auth: {{mode: api_key, api_keys: [{{name: shop, hash: "{"0" * 64}"}}]}}'
    (tmp_path / "config.yaml").write_text(keys, encoding="utf-8")
    open_one = target(allow_unauthenticated=True, source=tmp_path, config="config.yaml")
    check_configuration(open_one)
    steps = tuple(function_steps(replace(open_one, source=ROOT, config=CONFIG)))
    everybody = {step.id for step in steps if "--member=allUsers" in step.argv}
    users = {name for name, function in catalogue().items() if function.called_by == "users"}
    assert everybody == {f"call-{name}-allUsers" for name in users}, "nobody else's, and no internal one"
    for step in (step for step in steps if step.id.startswith("function-")):
        given = options(step).keys() & {"allow-unauthenticated", "no-allow-unauthenticated"}
        public = step.id.removeprefix("function-") in users
        assert given == {"allow-unauthenticated" if public else "no-allow-unauthenticated"}, step.id
    closed = {step.id: options(step).get("update-labels") for step in function_steps(target())}
    changed = {step.id for step in steps if options(step).get("update-labels") != closed.get(step.id)}
    assert changed == {f"function-{name}" for name in users}, "with the flag or without it, they are deployed again"
    (tmp_path / "config.yaml").write_text("auth: {mode: none}", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="on Cloud Run nobody"):
        check_configuration(replace(open_one, allow_unauthenticated=False))


def test_everything_that_is_asked_for_is_indexed_and_what_expires_is_deleted():
    steps = by_id(plan(target()))
    composite = [index for index in INDEXES if len(index.fields) > 1]
    made = [step for name, step in steps.items() if name.startswith("index-")]
    assert len(made) == len(composite)
    for index, step in zip(composite, made, strict=True):
        fields = [part.split("=", 2)[2].split(",order=") for part in step.argv if part.startswith("--field-config")]
        direction = "descending" if index.descending else "ascending"
        assert fields == [[name, "ascending"] for name in index.fields[:-1]] + [[index.fields[-1], direction]]
        assert f"--collection-group={index.collection}" in step.argv
    assert set(EXEMPT_FIELDS) == {name for _, name in exempt_fields()}, "a field that no record has, or the other way"
    queried = {(index.collection, name) for index in INDEXES for name in index.fields}
    assert not queried & set(exempt_fields())
    assert {"runs", "lease", "signals", "steps", "events", "idempotency", "deliveries", "_parts"} <= set(
        expiring_collections()
    )
    assert {f"ttl-{group}" for group in expiring_collections()} <= set(steps)


def test_the_order_works():
    order = [step.id for step in plan(target())]

    def before(first: str, second: str) -> bool:
        at = [position for position, name in enumerate(order) if name.startswith(first)]
        until = [position for position, name in enumerate(order) if name.startswith(second)]
        assert at, first
        assert until, second
        return max(at) < min(until)

    assert order[0] == "services"
    assert before("secret-", "account-"), "nothing is made before it is known that the secrets are there"
    assert before("account-", "role-")
    assert before("database", "index-")
    assert order.index("queue") < order.index("function-chat") < order.index("queue-runs")
    assert before("function-", "queue-runs"), "what waits in a paused queue is for the functions that are deployed"
    assert before("role-", "function-")
    assert before("function-", "call-")
    plan_ = [step.id for step in plan(target(), unknown_callers(target()))]
    assert max(plan_.index(f"no-call-{name}-MEMBER") for name in catalogue()) < plan_.index("function-health")
    assert order[-1] == "schedule"
    overlapping = [batch for batch in batches(plan(target())) if len(batch) > 1]
    assert [{step.id for step in batch} for batch in overlapping] == [{f"function-{name}" for name in catalogue()}]


def test_gateway_alone_is_called_by_all():
    steps = by_id(plan(target("gateway")))
    assert [name for name in steps if name.startswith("function-")] == ["function-gateway"]
    url = "https://goagents-gateway-123.europe-west1.run.app"
    assert f"GOAGENTS_WORKER_URL={url}/worker" in options(steps["function-gateway"])["set-env-vars"]
    assert options(steps["schedule"])["uri"] == f"{url}/sweep"
    assert "call-gateway-serviceAccount:goagents-invoker@my-project.iam.gserviceaccount.com" in steps


@pytest.mark.parametrize(
    ("names", "says"),
    [(("chat",), "add worker, or gateway"), (("chat", "worker"), "add sweeper"), (("chats",), "no function chats")],
)
def test_functions_that_cannot_work_together_are_refused(names: tuple[str, ...], says: str):
    with pytest.raises(Invalid, match=says):
        select(names)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"project": "My Project"}, "project: 'My Project' is not a project's id"),
        ({"region": "europe"}, "region: 'europe' is not a region"),
        ({"prefix": "a" * 30}, "prefix: is 9 characters too long"),
        ({"secrets": {"KEY": "sk-ant/slash"}}, "is not VARIABLE=SECRET"),
        ({"secrets": {"GOAGENTS_STORE": "foo"}}, "GOAGENTS_STORE=foo: the deployment sets GOAGENTS_STORE itself"),
        ({"secrets": {"PORT": "foo"}}, "secret: PORT=foo: the deployment sets PORT itself"),
        ({"invokers": ("ann@example.com",)}, "is not a member"),
        ({"invokers": ("allUsers",)}, "is not a member"),
        ({"database": "--data"}, "database: '--data' is not a Firestore database's id"),
    ],
)
def test_what_cannot_be_is_told_with_its_name(changes: dict[str, Any], says: str):
    with pytest.raises(Invalid) as caught:
        target(**changes)
    assert re.search(re.escape(says), "\n".join(map(str, caught.value.errors)))


def test_no_secret_takes_the_place_of_what_the_deployment_sets():
    where = target()
    set_by_us = {name for function in where.functions for name in where.environment(function)}
    assert {name for name in set_by_us if not RESERVED.fullmatch(name)} == set()
    free = ("ANTHROPIC_API_KEY", "GOAGENTS_INTERNAL_KEY", "SHOP_TOKEN", "GOOGLE_API_KEY", "PORTAL_KEY")
    assert [name for name in free if RESERVED.fullmatch(name)] == []
    terraform = (ROOT / "infra/terraform/main.tf").read_text(encoding="utf-8")
    (there,) = re.findall(r'^ *reserved *= "\^\((GOAGENTS_[^"]*)\)\$"', terraform, re.MULTILINE)
    assert {name for name in set_by_us if not re.fullmatch(there, name)} == set(), "nor there"


def test_the_source_must_be_there(tmp_path: Path):
    with pytest.raises(Invalid, match="this is not the source of GoAgents"):
        plan(target(source=tmp_path))
    with pytest.raises(Invalid, match="there is no such file"):
        plan(target(config="../config.yaml"))


def test_the_digest_changes_with_source_configuration_and_settings(tmp_path: Path):
    folders = [tmp_path / name for name in ("same", "source", "config", "document")]
    changed = ["README.md", "shared/a.py", "config.yaml", "README.md"]
    digests = []
    for folder, name in zip(folders, changed, strict=True):
        for path in ("functions/one/main.py", "shared/a.py", "config.yaml", "README.md"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            text = "2" if path == name and folder.name != "same" else "1"
            (folder / path).write_text(text, encoding="utf-8")
        digests.append(digest(folder, "config.yaml", ["a"]))
    same, source, config, document = digests
    assert len({same, source, config}) == 3
    assert document == same
    assert digest(folders[0], "config.yaml", ["b"]) != same
    assert re.fullmatch(r"[a-z0-9]{1,63}", same), "fit for a label"


def test_every_interface_that_is_used_is_enabled():
    used = {"functions": "cloudfunctions", "tasks": "cloudtasks", "scheduler": "cloudscheduler"}
    used |= {"secrets": "secretmanager", "projects": "cloudresourcemanager"}
    groups = {step.argv[0] for step in plan(target()) if step.argv} - {"services"}
    assert {f"{used.get(group, group)}.googleapis.com" for group in groups} <= set(SERVICES)


@needs_gcloud
def test_gcloud_takes_every_command_of_every_plan(tmp_path: Path):
    ann = ("user:ann@example.com",)
    where, alone = target(invokers=ann), target("gateway", invokers=ann, secrets={"OPENAI_API_KEY": "openai-api-key"})
    steps = [
        *plan(where, unknown_callers(where)),
        *removal(where, Kept(), data=True, queue=False),
        *removal(where, Kept(queue=False), data=False, queue=True),
    ]
    all_of_them = [argv for s in steps for argv in (s.argv, s.update, s.look) if argv]
    all_of_them += [arguments(where, f, "registry/image:1", new=new) for f in where.functions for new in (True, False)]
    # One of each shape, as the linter takes a quarter of a second for a command; and none that test_deploy.py has
    # gcloud carry out: it deploys the gateway.
    shapes = {shape(argv): argv for argv in all_of_them}
    carried_out = {shape(argv) for s in plan(alone) for argv in (s.argv, s.look) if argv}
    assert len(shapes) > 25
    left = [argv for each, argv in shapes.items() if each not in carried_out]
    assert 5 < len(left) < len(shapes) / 2
    assert gcloud_faults([shlex.join(["gcloud", *argv]) for argv in left], tmp_path) == []


def shape(argv: tuple[str, ...]) -> tuple[str, ...]:
    """A command without names and values: those of a plan hold the project's name, ours, a dot or a capital letter."""
    words = [part for part in argv if not part.startswith("-")]
    names = re.compile(r"my-project|goagents|anthropic|openai|shop|[.@:(A-Z_]")
    options = (part.partition("=")[0] for part in argv if part.startswith("-"))
    return (*(word for word in words if not names.search(word)), *options)

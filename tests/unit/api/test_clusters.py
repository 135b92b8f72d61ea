import json
from typing import Any

import pytest
import yaml
from tests.support.api import Api, problem

YAML = {"content-type": "application/yaml"}


def cluster(name: str = "shop", **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "goagents.dev/v1",
        "kind": "AgentCluster",
        "metadata": {"name": name, **metadata},
        "spec": {"agents": [{"name": "clerk", "provider": "scripted", "model": "echo"}]},
    }


async def test_a_cluster_lives_and_dies(api: Api):
    created = await api.call("POST", "/api/v1/clusters", json=cluster())
    assert created.status_code == 201
    assert created.json()["outcome"] == "created"
    assert created.headers["location"] == "/api/v1/clusters/shop"
    assert (await api.call("GET", created.headers["location"])).json()["manifest"]["metadata"]["name"] == "shop"
    problem(await api.call("POST", "/api/v1/clusters", json=cluster()), 409, "conflict")

    same = await api.call("PUT", "/api/v1/clusters/shop", json=cluster())
    assert (same.status_code, same.json()["outcome"], same.json()["cluster"]["generation"]) == (200, "unchanged", 1)
    changed = cluster()
    changed["spec"]["agents"][0]["max_turns"] = 3
    new = await api.call("PUT", "/api/v1/clusters/shop", content=yaml.safe_dump(changed), headers=YAML)
    assert (new.status_code, new.json()["outcome"], new.json()["cluster"]["generation"]) == (200, "updated", 2)
    assert new.json()["changes"] == ["spec.agents.0.max_turns"]

    gone = await api.call("DELETE", "/api/v1/clusters/shop")
    assert (gone.status_code, gone.content) == (204, b"")
    problem(await api.call("GET", "/api/v1/clusters/shop"), 404, "not_found")
    problem(await api.call("DELETE", "/api/v1/clusters/shop"), 404, "not_found")


async def test_put_creates_too(api: Api):
    made = await api.call("PUT", "/api/v1/clusters/shop?namespace=prod", json=cluster(namespace="prod"))
    assert made.status_code == 201
    assert made.headers["location"] == "/api/v1/clusters/shop?namespace=prod"
    assert (await api.call("GET", made.headers["location"])).status_code == 200


@pytest.mark.parametrize(
    ("path", "manifest", "wrong"),
    [
        ("/api/v1/clusters/other", cluster(), ["metadata.name"]),
        ("/api/v1/clusters/shop?namespace=prod", cluster(), ["metadata.namespace"]),
        ("/api/v1/clusters/other", cluster(namespace="prod"), ["metadata.name", "metadata.namespace"]),
    ],
)
async def test_put_is_of_the_cluster_in_the_path(api: Api, path: str, manifest: dict[str, Any], wrong: list[str]):
    body = problem(await api.call("PUT", path, json=manifest), 422, "invalid")
    assert [error["path"] for error in body["errors"]] == wrong


async def test_a_dry_run_writes_nothing(api: Api):
    for method, path in (("POST", "/api/v1/clusters"), ("PUT", "/api/v1/clusters/shop")):
        answer = await api.call(method, f"{path}?dry_run=true", json=cluster())
        assert (answer.status_code, answer.json()["outcome"]) == (200, "created")
        assert "location" not in answer.headers
        problem(await api.call("GET", "/api/v1/clusters/shop"), 404, "not_found")


async def test_lists_come_in_pages(api: Api):
    for n in range(4):
        await api.call("POST", "/api/v1/clusters", json=cluster(f"shop-{n}", namespace="prod"))
    names, token = [], None
    while True:
        params = {"namespace": "prod", "page_size": "3"} | ({"page_token": token} if token else {})
        page = (await api.call("GET", "/api/v1/clusters", params=params)).json()
        names += [item["name"] for item in page["items"]]
        token = page["next_page_token"]
        if token is None:
            break
    assert names == [f"shop-{n}" for n in range(4)]
    agents = await api.call("GET", "/api/v1/agents?namespace=prod&cluster=shop-1")
    assert [agent["id"] for agent in agents.json()["items"]] == ["prod.shop-1.clerk"]
    assert (await api.call("GET", "/api/v1/agents/prod.shop-1.clerk")).json()["model"] == "echo"


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("page_size=0", "page_size"), ("page_size=501", "page_size"), ("page_size=-1", "page_size"),
        ("page_size=ten", "page_size"), ("page_size=", "page_size"), ("page_size=%D9%A3", "page_size"),
        ("page_size=" + "9" * 5000, "page_size"), ("page_size=1&page_size=2", "page_size"),
        ("page_token=", "page_token"), ("page_token=" + "x" * 5000, "page_token"),
        ("namespace=", "namespace"), ("namespace=A", "namespace"), ("namespace=a%2Fb", "namespace"),
        ("namespace=a%00", "namespace"), ("namespace=%ff", "namespace"), ("namespace=a%0A", "namespace"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/v1/clusters", "/api/v1/agents"])
async def test_parameters_that_are_wrong(api: Api, path: str, query: str, wrong: str):
    body = problem(await api.call("GET", f"{path}?{query}"), 422, "invalid")
    assert [error["path"] for error in body["errors"]] == [wrong]


async def test_a_page_token_that_is_not_ours(api: Api):
    problem(await api.call("GET", "/api/v1/clusters?page_token=abc"), 422, "invalid")


@pytest.mark.parametrize("flag", ["dry_run=1", "dry_run=TRUE", "dry_run=", "dry_run=true&dry_run=true"])
async def test_flags_are_true_or_false(api: Api, flag: str):
    problem(await api.call("POST", f"/api/v1/clusters?{flag}", json=cluster()), 422, "invalid")
    problem(await api.call("GET", "/api/v1/clusters/shop"), 404, "not_found")


async def test_scale(api: Api):
    path = "/api/v1/clusters/support/scale"
    scaled = await api.call("POST", path, json={"agent": "echo", "instances": 2})
    assert (scaled.status_code, scaled.json()["kept_instances"]) == (200, 2)
    wrong: list[tuple[Any, list[str]]] = [
        ({"agent": "echo", "instances": 999}, ["instances"]),
        ({"agent": "echo", "instances": -1}, ["instances"]),
        ({"agent": "echo", "instances": "2"}, ["instances"]),
        ({"agent": "echo", "instances": True}, ["instances"]),
        ({"instances": 1}, ["agent"]),
        ({"agent": "echo", "instances": 1, "more": 1}, ["more"]),
        ([], [""]),
    ]
    for body, paths in wrong:
        found = problem(await api.call("POST", path, json=body), 422, "invalid")
        assert [error["path"] for error in found["errors"]] == paths
    problem(await api.call("POST", path, json={"agent": "nobody", "instances": 1}), 404, "not_found")
    problem(await api.call("POST", "/api/v1/clusters/no/scale", json={"agent": "a", "instances": 1}), 404, "not_found")


async def test_what_a_received_cluster_may_not_do(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRIVATE_VALUE", "sk-private")
    manifest = cluster()
    manifest["spec"]["agents"][0]["system_prompt"] = "${PRIVATE_VALUE}"
    body = problem(await api.call("POST", "/api/v1/clusters", json=manifest), 422, "invalid")
    assert body["errors"][0]["path"] == "spec.agents.0.system_prompt"
    assert "sk-private" not in json.dumps(body)
    api.configure(allow={"env": ["PRIVATE_VALUE"]})
    answer = await api.call("POST", "/api/v1/clusters", json=manifest)
    assert answer.status_code == 201
    assert "sk-private" not in answer.text


async def test_all_that_is_wrong_with_a_cluster_is_told_at_once(api: Api):
    manifest = cluster()
    manifest["spec"]["agents"][0] |= {"provider": "opnai", "max_turn": 3}
    body = problem(await api.call("POST", "/api/v1/clusters", json=manifest), 422, "invalid_configuration")
    assert {error["path"] for error in body["errors"]} == {"spec.agents.0.provider", "spec.agents.0.max_turn"}


async def test_logs_tell_what_agents_did(api: Api):
    run = (await api.say("echo")).json()["run_id"]
    await api.say("broken")
    page = (await api.call("GET", "/api/v1/clusters/support/logs")).json()
    assert run in {entry["run_id"] for entry in page["items"]}
    only = (await api.call("GET", "/api/v1/clusters/support/logs?agent=echo")).json()
    assert {entry["agent"].rpartition(".")[2] for entry in only["items"]} == {"echo"}
    problem(await api.call("GET", "/api/v1/clusters/nope/logs"), 404, "not_found")
    problem(await api.call("GET", "/api/v1/clusters/nope/logs?follow=true"), 404, "not_found")
    assert (await api.call("HEAD", "/api/v1/clusters/support/logs?follow=true")).content == b""

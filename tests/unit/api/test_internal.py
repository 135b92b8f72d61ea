"""`POST /worker` and `POST /sweep`: who is served, what a task must be, and what the queue is answered."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.api import Api, problem
from tests.support.asgi_server import AsgiServer
from tests.support.google_tokens import CertificateServer, SigningKey, claims_of
from tests.support.stores import UnreliableStore

from goagents import resources
from goagents.api import agents, asgi, openapi, sweeper, worker
from goagents.api.shutdown import Shutdown
from goagents.engine.services import Services
from goagents.identity.base import TokenVerifier
from goagents.identity.google import GoogleTokens
from goagents.telemetry.base import RequestFinished

ROUTES = [*worker.routes, *sweeper.routes]
KEY = {"authorization": "Bearer the-internal-key"}
RUN = {"kind": "run", "tenant": "default", "run": "run_gone", "token": "lease_1"}
DELIVERY = {"kind": "delivery", "tenant": "acme", "run": "run_gone", "token": "0", "delivery": "run.completed"}
TASKS, OTHER = "tasks@test.iam.gserviceaccount.com", "other@test.iam.gserviceaccount.com"
OURS, FOREIGN = SigningKey("key-1"), SigningKey("key-1")
HERE = "http://127.0.0.1:8080"
BOTH = pytest.mark.parametrize(("path", "body"), [("/worker", RUN), ("/sweep", None)])


@pytest.fixture
def internal(api: Api) -> Api:
    """The internal routes, open to the holder of a key."""
    assert hasattr(api.services, "seen")
    made = Api(api.services, ROUTES)
    made.settle(internal_key="the-internal-key")
    return made


async def post(api: Api, path: str, body: Any = None, headers: dict[str, str] = KEY, **options: Any) -> Any:
    content = {} if body is None else {"json": body}
    return await api.call("POST", path, headers=headers, **content, **options)


class TestCallers:
    @BOTH
    async def test_the_holder_of_the_key(self, internal: Api, path: str, body: Any):
        assert (await post(internal, path, body)).status_code == 200
        assert (await post(internal, path, body, client="203.0.113.9")).status_code == 200

    @BOTH
    async def test_nobody_else(self, internal: Api, path: str, body: Any):
        for headers in ({}, {"authorization": "Bearer another-key"}):
            answer = await post(internal, path, body, headers=headers)
            problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")

    @BOTH
    async def test_not_even_who_may_chat(self, internal: Api, path: str, body: Any):
        keys = [{"name": "ci", "hash": hashlib.sha256(b"key-of-ci").hexdigest()}]
        internal.configure(auth={"mode": "api_key", "api_keys": keys})
        problem(await post(internal, path, body, headers={"authorization": "Bearer key-of-ci"}), 401, "unauthenticated")
        assert (await post(internal, path, body)).status_code == 200

    @BOTH
    async def test_where_nothing_is_configured_it_is_said_what_to_configure(self, internal: Api, path: str, body: Any):
        internal.settle()
        told = problem(await post(internal, path, body, headers={}), 403, "permission_denied")
        assert "GOAGENTS_INTERNAL_KEY" in told["detail"]

    async def test_a_mode_that_cannot_hold_is_not_served(self, internal: Api):
        internal.configure(auth={"mode": "platform"})
        problem(await post(internal, "/sweep"), 503, "not_serving")

    async def test_whom_the_platform_let_through(self, internal: Api):
        internal.configure(internal={"service_accounts": [TASKS]})
        internal.settle(service="worker")
        for account, status in ((TASKS, 200), (OTHER, 403)):
            token = FOREIGN.token(claims_of(account, HERE))  # what IAM has verified is not verified again
            answer = await post(internal, "/sweep", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == status

    @BOTH
    async def test_users_of_a_gateway_are_not_let_through(self, api: Api, path: str, body: Any):
        for routes, status in ((ROUTES, 200), ([*ROUTES, *agents.routes], 403)):
            made = Api(api.services, routes)
            made.settle(service="goagents")
            header = {"authorization": f"Bearer {FOREIGN.token(claims_of(OTHER, HERE))}"}
            answer = await post(made, path, body, headers=header)
            assert answer.status_code == status
        told = problem(answer, 403, "permission_denied")
        assert "internal.service_accounts" in told["detail"]
        assert (await made.call("GET", "/api/v1/agents", headers=header)).status_code == 200

    async def test_methods(self, internal: Api):
        for path in ("/worker", "/sweep"):
            assert (await internal.call("GET", path, headers=KEY)).status_code == 405
            answer = await internal.call("OPTIONS", path)
            assert (answer.status_code, answer.headers["allow"]) == (204, "OPTIONS, POST")

    def test_it_is_between_the_parts_of_a_deployment_and_in_no_document(self):
        assert not {"/worker", "/sweep"} & set(json.loads(openapi.text())["paths"])


class TestTokens:
    """Tokens really signed, certificates really fetched."""

    @pytest.fixture
    def certificates(self) -> Iterator[tuple[CertificateServer, str]]:
        app = CertificateServer(OURS)
        with AsgiServer(app) as server:
            yield app, server.url

    @pytest.fixture
    def verified(self, internal: Api, certificates: tuple[CertificateServer, str]) -> Api:
        verifier = GoogleTokens(certs_url=certificates[1])

        async def get_verifier(_: Services) -> TokenVerifier:
            return verifier

        internal.app = asgi.create(ROUTES, internal._get, get_verifier)
        internal.configure(internal={"service_accounts": [TASKS]})
        return internal

    @BOTH
    async def test_a_named_account(self, verified: Api, path: str, body: Any):
        token = OURS.token(claims_of(TASKS, f"{HERE}{path}"))
        headers = {"authorization": f"Bearer {token}"}
        assert (await post(verified, f"{path}?x=1", body, headers=headers)).status_code == 200
        assert (await post(verified, path, body)).status_code == 200  # the key still opens

    @pytest.mark.parametrize(
        ("token", "status", "code"),
        [
            (OURS.token(claims_of(OTHER, f"{HERE}/sweep")), 403, "permission_denied"),
            (OURS.token(claims_of(TASKS, f"{HERE}/worker")), 401, "unauthenticated"),
            (OURS.token(claims_of(TASKS, "https://other.example/sweep")), 401, "unauthenticated"),
            (OURS.token(claims_of(TASKS, f"{HERE}/sweep", iat=1, exp=2)), 401, "unauthenticated"),
            (OURS.token(claims_of(TASKS, f"{HERE}/sweep", iss="https://other.example")), 401, "unauthenticated"),
            (OURS.token(claims_of(TASKS, f"{HERE}/sweep", email_verified=False)), 401, "unauthenticated"),
            (FOREIGN.token(claims_of(TASKS, f"{HERE}/sweep")), 401, "unauthenticated"),
            (OURS.unsigned(claims_of(TASKS, f"{HERE}/sweep")), 401, "unauthenticated"),
            (OURS.confused(claims_of(TASKS, f"{HERE}/sweep")), 401, "unauthenticated"),
            ("garbage", 401, "unauthenticated"),
        ],
    )
    async def test_anybody_else(self, verified: Api, token: str, status: int, code: str):
        problem(await post(verified, "/sweep", headers={"authorization": f"Bearer {token}"}), status, code)

    async def test_an_audience_of_its_own(self, verified: Api):
        verified.configure(internal={"service_accounts": [TASKS], "audience": "goagents"})
        for audience, status in (("goagents", 200), (f"{HERE}/sweep", 401)):
            headers = {"authorization": f"Bearer {OURS.token(claims_of(TASKS, audience))}"}
            assert (await post(verified, "/sweep", headers=headers)).status_code == status

    async def test_without_certificates_the_queue_comes_back(
        self, verified: Api, certificates: tuple[CertificateServer, str]
    ):
        certificates[0].status = 500
        headers = {"authorization": f"Bearer {OURS.token(claims_of(TASKS, f'{HERE}/worker'))}"}
        problem(await post(verified, "/worker", RUN, headers=headers), 503, "identity_unavailable")


class TestTasks:
    @pytest.mark.parametrize("body", [RUN, DELIVERY, RUN | {"delivery": None}])
    async def test_what_is_no_more_to_be_done_is_done(self, internal: Api, body: Any):
        answer = await post(internal, "/worker", body)
        assert (answer.status_code, answer.json()) == (200, {})

    @pytest.mark.parametrize(
        ("change", "path"),
        [
            ({"kind": "errand"}, "kind"),
            ({"kind": None}, "kind"),
            ({"tenant": "a/b"}, "tenant"),
            ({"tenant": ".."}, "tenant"),
            ({"tenant": "x" * 64}, "tenant"),
            ({"run": "a/b"}, "run"),
            ({"run": ""}, "run"),
            ({"run": 5}, "run"),
            ({"token": ""}, "token"),
            ({"token": "x" * 257}, "token"),
            ({"token": "a b"}, "token"),
            ({"kind": "delivery"}, ""),
            ({"delivery": "run.completed"}, ""),
            ({"kind": "delivery", "delivery": "a/b"}, "delivery"),
            ({"kind": "delivery", "delivery": ""}, "delivery"),
            ({"delay": 5}, "delay"),
        ],
    )
    async def test_a_malformed_task(self, internal: Api, change: dict[str, Any], path: str):
        told = problem(await post(internal, "/worker", RUN | change), 422, "invalid")
        assert [error["path"] for error in told["errors"]] == [path]

    async def test_no_task(self, internal: Api):
        for content, status in ((b"", 400), (b"{", 400), (b"[]", 422), (b"x" * (5 << 20), 413)):
            headers = KEY | {"content-type": "application/json"}
            answer = await internal.call("POST", "/worker", headers=headers, content=content)
            assert answer.status_code == status
        assert (await internal.call("POST", "/worker", headers=KEY, content=b"{}")).status_code == 415

    @BOTH
    async def test_a_store_that_is_away(self, internal: Api, path: str, body: Any):
        store = UnreliableStore(internal.services.store)
        internal.services.store = store
        store.unplugged = True
        answer = await post(internal, path, body)
        problem(answer, 503, "store_unavailable")

    async def test_the_log_says_which_run(self, internal: Api):
        await post(internal, "/worker", RUN)
        (seen,) = [event for event in internal.seen if isinstance(event, RequestFinished)]
        assert (seen.route, seen.run_id, seen.principal) == ("/worker", "run_gone", "internal")

    @BOTH
    async def test_the_end_of_the_process_knows_of_what_runs(self, internal: Api, path: str, body: Any):
        await post(internal, path, body)
        assert any(services is internal.services for services in Shutdown.of_process()._served)


class TestSweeps:
    async def test_a_report(self, internal: Api):
        answer = await post(internal, "/sweep")
        report = resources.SweepReport.model_validate(answer.json(), extra="forbid")
        assert report.redispatched == 0

    async def test_one_that_found_nothing_is_not_told(self, internal: Api):
        await post(internal, "/sweep")
        assert not [event for event in internal.seen if isinstance(event, RequestFinished)]
        await post(internal, "/sweep", headers={})
        (seen,) = [event for event in internal.seen if isinstance(event, RequestFinished)]
        assert seen.status == 401


def test_the_functions_serve_one_route_each():
    assert [route.path for route in worker.routes] == ["/worker"]
    assert [route.path for route in sweeper.routes] == ["/sweep"]

"""A process dies at every boundary of a run, and another one goes on: real processes, SIGKILL, real stores.

Whatever the point: the conversation is in the end the one of an undisturbed run, no recorded result was computed again,
the unsafe tool was called once at most, and nothing is held any more.
"""

from collections.abc import Iterator

import pytest
from tests.support.counting_tools import CountingTools, ToolCall
from tests.support.firestore_emulator import firestore_emulator, missing
from tests.support.kill_scene import Case, Scene
from tests.support.processes import Site

from goagents.testing.kill_points import KillPoint as P

FIRST = frozenset({"look", "reserve"})  # the calls of the first step
LOOK = frozenset({"look"})  # in the second one, beside the refund
CASES = [
    Case(P.BEFORE_ADMISSION),
    Case(P.AFTER_ADMISSION, way="retry"),
    Case(P.AFTER_ADMISSION, way="sweep"),
    Case(P.IN_MODEL_STREAM, way="follow", models=(1, 1, 2, 3)),
    Case(P.IN_MODEL_STREAM, 3, way="follow", models=(1, 2, 3, 3)),
    Case(P.BEFORE_MODEL_RESULT, way="sweep", models=(1, 1, 2, 3)),
    Case(P.AFTER_MODEL_RESULT, way="follow"),
    Case(P.BEFORE_TOOL_CALL, tool="look", way="retry", again=frozenset({"reserve"})),
    Case(P.AFTER_TOOL_CALL, tool="reserve", way="follow", again=FIRST),
    Case(P.BEFORE_RESULTS, way="follow", again=FIRST),
    Case(P.AFTER_RESULTS, way="sweep"),
    Case(P.AFTER_MODEL_RESULT, 2, way="sweep", refunds=0, known=False, again=LOOK),
    Case(P.BEFORE_TOOL_CALL, tool="refund", way="follow", refunds=0, known=False, again=LOOK),
    Case(P.AFTER_TOOL_CALL, tool="refund", way="retry", known=False, again=LOOK),
    Case(P.BEFORE_TOOL_RESULT, way="follow", known=False, again=LOOK),
    Case(P.AFTER_TOOL_RESULT, way="sweep", again=LOOK),
    Case(P.BEFORE_RESULTS, 2, way="retry", again=LOOK),
    Case(P.AFTER_RESULTS, 2, way="follow"),
    Case(P.BEFORE_SETTLE, way="sweep", models=(1, 2, 3, 3)),
    Case(P.AFTER_SETTLE, way="retry"),
    Case(P.AFTER_SETTLE, way="follow"),
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kills")
    with CountingTools() as tools, Scene.of(Site(folder, f"sqlite:///{folder}/state.db", tools)) as made:
        yield made


@pytest.fixture(scope="module")
def firestore_scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("kills-firestore")
    with firestore_emulator() as address, CountingTools() as tools, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIRESTORE_EMULATOR_HOST", address)  # this process looks into the store, too
        environment = {"FIRESTORE_EMULATOR_HOST": address}
        site = Site(folder, "firestore://test-kills/(default)", tools, environment, lease_ttl="1s")
        with Scene.of(site) as made:
            yield made


def disturbed(scene: Scene, case: Case) -> None:
    order = scene.order()
    follower = scene.begin(case, order)
    assert not follower.over
    scene.go_on(case, order, follower)
    scene.check(case, order)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_another_process_goes_on(scene: Scene, case: Case):
    disturbed(scene, case)


@pytest.mark.emulator
@pytest.mark.xdist_group("firestore")
@pytest.mark.parametrize("case", [case for case in CASES if case.point.boundary is not None], ids=str)
def test_on_firestore_too(firestore_scene: Scene, case: Case):
    disturbed(firestore_scene, case)


@pytest.mark.parametrize(
    "case",
    [
        Case(P.IN_TOOL_CALL, tool="look", way="sweep", again=FIRST),
        Case(P.IN_TOOL_CALL, tool="reserve", way="follow", again=FIRST),
        Case(P.IN_TOOL_CALL, tool="refund", way="retry", known=False, again=LOOK),
    ],
    ids=str,
)
def test_a_call_is_under_way(scene: Scene, case: Case):
    """The service has got the call and will answer, to nobody: killed from outside, the moment it arrives."""
    order, victim = scene.order(), scene.site.victim()

    def arrived(call: ToolCall) -> None:
        if (call.tool, call.order) == (case.tool, order.number):
            scene.site.tools.on_call = None
            victim.kill()

    scene.site.tools.on_call = arrived
    follower = scene.send(case, order, victim)
    victim.wait_dead()
    scene.go_on(case, order, follower)
    scene.check(case, order)


def test_the_next_process_dies_too(scene: Scene):
    order = scene.order()
    case = Case(P.AFTER_MODEL_RESULT, again=FIRST)
    follower = scene.begin(case, order)
    scene.begin(Case(P.BEFORE_RESULTS), order)
    scene.begin(Case(P.AFTER_MODEL_RESULT, 1), order)
    scene.go_on(case, order, follower)
    scene.check(Case(case.point, refunds=0, known=False, again=FIRST), order)


def test_a_killed_process_and_its_master_are_gone(scene: Scene):
    """gunicorn's master would start another worker, which would go on where the first one died."""
    victim = scene.site.victim()
    assert victim.ask("GET", "/health").status_code == 200
    assert len(victim.alive()) == 2
    victim.kill()
    victim.wait_dead()
    assert victim.alive() == []

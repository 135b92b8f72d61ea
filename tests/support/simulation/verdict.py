"""What must be true of the simulated world once everything has come to rest."""

from collections import Counter

from goagents.messages import MESSAGE
from goagents.records import TERMINAL, Paths
from goagents.resources import ChatResponse

from .ledger import CLUSTER, NAMESPACE, PATHS, Ledger
from .world import World


def verdict(world: World) -> list[str]:
    """Return what is wrong."""
    ledger = world.ledger
    found = list(ledger.wrong)
    for follower in world.followers:
        found += [f"a follower of {ledger.called(follower.run)}: {wrong}" for wrong in follower.check(ledger)]
    for id, run in ledger.runs().items():
        if run["status"] not in TERMINAL:
            found.append(f"{ledger.called(id)} did not end: it is {run['status']}")
    for path in ledger.under(PATHS.sessions()):
        found += _session(ledger, path.rpartition("/")[2])
    return [*found, *_answers(world), *_at_rest(world), *_counters(ledger), *_webhooks(world)]


def _session(ledger: Ledger, session: str) -> list[str]:
    """Each run's messages lie together: the user's, then its answer if it succeeded; else word of its unsafe calls."""
    record, found = ledger.documents[PATHS.session(session)], []
    if record.get("active_run") or record.get("queue"):
        found.append(f"the session {session} holds {record.get('active_run')} and {record.get('queue')}")
    turns: list[tuple[str, list[str]]] = []
    for message in ledger.under(PATHS.messages(session)).values():
        if not turns or turns[-1][0] != message["run"]:
            turns.append((message["run"], []))
        turns[-1][1].append(message["message"]["role"])
        if message["message"]["role"] == "user" and message["message"] != ledger.run(message["run"])["input"]:
            found.append(f"{ledger.called(message['run'])} has the user message of another run")
    order = [run for run, _ in turns]
    if len(order) != len(set(order)):
        found.append(f"the session {session} has one run's messages between another's: {map(ledger.called, order)}")
    for run, roles in turns:
        succeeded = ledger.run(run)["status"] == "succeeded"
        told = roles[1:2] == ["assistant"] or succeeded
        whole = ["user", *["assistant", "tool"] * (len(roles) // 2 - 1), "assistant"] if told else ["user"]
        whole = whole if succeeded else whole[:2]
        if roles != whole:
            found.append(f"{ledger.called(run)} ({ledger.run(run)['status']}) has the messages {roles}")
    admitted = {id for id, run in ledger.runs().items() if run["session"] == session and run.get("head") is not None}
    if admitted != set(order):
        found.append(f"the session {session} has no message of {[ledger.called(run) for run in admitted - set(order)]}")
    return found


def _answers(world: World) -> list[str]:
    """What a client was told is what is stored, and a key is one run."""
    found, ledger = [], world.ledger
    for request in world.requests:
        if len(request.runs) > 1 and request.key is not None:
            found.append(f"one key, {len(request.runs)} runs: #{request.number}")
        for id, answer in request.answers:
            run = ledger.run(id)
            if isinstance(answer, ChatResponse):
                same = run["status"] == "succeeded" and MESSAGE.validate_python(run["output"]) == answer.message
            else:
                same = (run.get("error") or {}).get("code") == answer.code
            if not same:
                found.append(f"#{request.number} was answered {answer!r}, and stored is {run}")
    return found


def _at_rest(world: World) -> list[str]:
    """Nothing is held any more: in the store, and in the memory of the processes."""
    found, ledger = [], world.ledger
    for collection in (PATHS.slots(NAMESPACE, CLUSTER), PATHS.instances(NAMESPACE, CLUSTER)):
        found += [f"{path} is not free" for path, place in ledger.under(collection).items() if place.get("run")]
    for worker in world.workers:
        services = worker.services
        held = {path: pool._held for path, pool in services.capacity._pools.items() if pool._held}
        left = (held, dict(services.handles), set(services.tasks))
        if any(left):
            found.append(f"{worker.name} still holds {left}")
    return found


def _counters(ledger: Ledger) -> list[str]:
    """Each run counts once."""
    shards = ledger.under(PATHS.usage()).values()
    counted = Counter({name: sum(shard.get(name, 0) for shard in shards) for name in ("runs", *sorted(TERMINAL))})
    ended = Counter(run["status"] for run in ledger.runs().values())
    wanted = Counter({"runs": ended.total()}) + ended
    return [] if +counted == wanted else [f"the counters say {dict(counted)}, and there are {dict(wanted)}"]


def _webhooks(world: World) -> list[str]:
    """The end of a run that has a webhook is told, each time under the same id."""
    found = []
    told: dict[str, set[str]] = {}
    for delivery in world.webhooks.deliveries:
        told.setdefault(delivery.body, set()).add(delivery.id)
    if any(len(ids) > 1 for ids in told.values()):
        found.append("one message of a webhook was sent under several ids")
    for id, run in world.ledger.runs().items():
        end = {"succeeded": "run.completed", "failed": "run.failed", "cancelled": "run.cancelled"}.get(run["status"])
        delivery = world.ledger.documents.get(Paths("default").delivery(id, end or ""))
        if run.get("webhook") and (delivery is None or delivery["state"] != "delivered"):
            found.append(f"{world.ledger.called(id)} {run['status']}, and its webhook was not told")
    return found

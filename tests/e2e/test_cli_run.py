"""`goagents run` as a process among processes: reload, signals, death, ports, credentials, TLS."""

import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx2
import pytest
import yaml
from tests.support.cli_process import GOAGENTS, Running, goagents, gone, running

from goagents.client import Client
from goagents.errors import Unauthenticated


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert goagents("init", cwd=tmp_path).returncode == 0
    return tmp_path


def reply(url: str, message: str = "hi") -> str:
    with Client(url) as client:
        return client.chat("hello.assistant", message).message.text


def edit(path: Path, old: str, new: str) -> None:
    """Replace as editors do: a new file under the old name."""
    text = path.read_text()
    assert old in text
    draft = path.with_suffix(".new")
    draft.write_text(text.replace(old, new))
    draft.replace(path)


def await_reply(url: str, wanted: str) -> str:
    until = time.monotonic() + 60
    while (said := reply(url)) != wanted and time.monotonic() < until:
        time.sleep(0.1)
    return said


def test_valid_changes_take_effect_and_invalid_ones_are_reported(folder: Path):
    with running(cwd=folder) as server:
        url = server.url
        pid = server.child().pid
        edit(folder / "cluster.yaml", "max_concurrent_agents: 5", "max_concurrent_agents: 3")
        server.await_text(r"cluster default/hello updated \(generation 2\): spec.resource_policy.max_concurrent_agents")
        edit(folder / "cluster.yaml", "provider: scripted", "provider: skripted")
        server.await_text(r"not reloaded, the old configuration stays:\n.*cluster\.yaml:\d+:\d+: spec\.agents\.0\.prov")
        with Client(url) as client:
            assert client.get_cluster("hello").max_concurrent_agents == 3
            assert client.get_cluster("hello").generation == 2
        edit(folder / "cluster.yaml", "provider: skripted", "provider: scripted")
        server.await_text("reloaded\n(?s:.*)not reloaded(?s:.*)\nreloaded\n")
        edit(folder / "config.yaml", "so all I can do is repeat: {user}", "changed")
        assert await_reply(url, "Hello! I follow a script, changed") == "Hello! I follow a script, changed"
        assert server.child().pid == pid
        assert server.end() == 0


def test_a_cluster_that_leaves_the_files_stays(folder: Path):
    second = (folder / "cluster.yaml").read_text().replace("name: hello", "name: second")
    (folder / "cluster.yaml").write_text((folder / "cluster.yaml").read_text() + "---\n" + second)
    with running(cwd=folder) as server:
        assert server.url
        (folder / "cluster.yaml").write_text(second)
        server.await_text("cluster default/hello is no longer in the files, and stays")
        assert reply(server.url).startswith("Hello!")


def test_what_is_read_at_the_start_only_is_said_and_clusters_stay_where_they_are_served(folder: Path):
    with running(cwd=folder) as server:
        assert server.url
        edit(folder / "config.yaml", "sqlite:///.goagents/goagents.db", "sqlite:///elsewhere.db")
        server.await_text(r"store\.url take effect when you start `goagents run` anew")
        edit(folder / "cluster.yaml", "max_concurrent_agents: 5", "max_concurrent_agents: 3")
        server.await_text(r"updated \(generation 2\)")
        with Client(server.url) as client:
            assert client.get_cluster("hello").max_concurrent_agents == 3
        assert not (folder / "elsewhere.db").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_all_that_it_started(folder: Path, number: signal.Signals):
    with running(cwd=folder) as server:
        assert server.url
        started = server.descendants()
        assert len(started) >= 2
        begun = time.monotonic()
        assert server.end(number) == 0
        assert time.monotonic() - begun < 10
        assert "ending" in server.printed
        assert gone(started)
        assert "Traceback" not in server.printed


def test_a_run_in_progress_finishes_before_the_end(folder: Path):
    edit(folder / "config.yaml", "        - text: ", "        - delay: 2s\n          text: ")
    with running(cwd=folder) as server, Client(server.url) as client:
        events = client.stream("hello.assistant", "slow")
        assert next(events).type == "run.started"
        server.process.send_signal(signal.SIGTERM)
        assert [event.type for event in events][-1] == "run.completed"
        assert server.status() == 0


def test_a_serving_process_that_dies_ends_the_parent(folder: Path):
    with running(cwd=folder) as server:
        assert server.url
        started = server.descendants()
        server.child().send_signal(signal.SIGKILL)
        assert server.status() == 128 + signal.SIGKILL
        assert "the serving process ended unexpectedly, with status 137" in server.printed
        assert gone(started)


def test_a_parent_that_dies_takes_the_serving_process_along(folder: Path):
    with running(cwd=folder) as server:
        assert server.url
        started = server.descendants()
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        assert gone(started, 15)


@pytest.mark.parametrize("pause", [0.0, 1.5], ids=["at once", "while the one below is at it"])
def test_a_worker_ends_whichever_processes_above_it_are_killed(folder: Path, pause: float):
    with running(cwd=folder) as server:
        url = server.url
        master, started = server.child(), server.descendants()
        (worker,) = (each for each in started if each != master)
        try:
            master.suspend()  # so that it has no time to end the worker
            assert server.end(signal.SIGKILL) == -signal.SIGKILL
            time.sleep(pause)  # beyond the worker's next look
            master.kill()
            assert gone(started, 15)
            with pytest.raises(httpx2.ConnectError):
                httpx2.get(f"{url}/health", trust_env=False)
        finally:
            for each in (master, worker):
                if each.is_running():
                    each.kill()


def test_state_is_still_there_after_a_restart(folder: Path):
    with running(cwd=folder) as server:
        with Client(server.url) as client:
            session = client.chat("hello.assistant", "remember").session_id
        assert server.end() == 0
    with running(cwd=folder) as server:
        server.await_text("cluster default/hello unchanged")
        with Client(server.url) as client:
            assert next(client.messages(session)).message.text == "remember"


def test_a_port_in_use_is_a_clear_error(folder: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = goagents("run", "--port", str(port), cwd=folder)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_auth_only_this_machine_is_served(folder: Path):
    edit(folder / "config.yaml", "host: 127.0.0.1", "host: 0.0.0.0")
    with running(cwd=folder) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert "no `auth:` is configured, so only this machine is served: 127.0.0.1, not 0.0.0.0" in server.printed
        assert listeners(server) == {"127.0.0.1"}


def listeners(server: Running) -> set[str]:
    return {
        connection.laddr.ip
        for process in server.descendants()
        for connection in process.net_connections("tcp")
        if connection.status == "LISTEN"
    }


def test_a_key_made_here_opens_it(folder: Path):
    made = goagents("keys", "new", "ann", cwd=folder)
    key = made.stderr.splitlines()[0].rpartition(": ")[2]
    assert yaml.safe_load(made.stdout)["auth"]["api_keys"][0]["name"] == "ann"
    assert key not in made.stdout
    with (folder / "config.yaml").open("a") as config:
        config.write(made.stdout)
    with running(cwd=folder) as server:
        assert "Authorization: Bearer $GOAGENTS_API_KEY" in server.await_text("curl .*")[0]
        with Client(server.url) as anonymous, pytest.raises(Unauthenticated):
            anonymous.list_clusters()
        refused = goagents("status", cwd=folder, env={"GOAGENTS_SERVER": server.url, "GOAGENTS_API_KEY": "gak_no"})
        assert refused.returncode == 1
        assert "gak_no" not in refused.stderr
        shown = goagents("status", cwd=folder, env={"GOAGENTS_SERVER": server.url, "GOAGENTS_API_KEY": key})
        assert shown.returncode == 0
        assert "hello.assistant" in shown.stdout
        assert key not in server.printed


def test_everything_may_stand_in_one_file_and_be_served_over_tls(folder: Path):
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run(
        [*new, "-keyout", "key.pem", "-out", "cert.pem", *subject], cwd=folder, check=True, capture_output=True
    )
    config = (
        (folder / "config.yaml").read_text().replace("server:\n", "server:\n  tls: {cert: cert.pem, key: key.pem}\n")
    )
    (folder / "all.yaml").write_text(config + "---\n" + (folder / "cluster.yaml").read_text())
    with running("--config", "all.yaml", cwd=folder) as server:
        url = server.url
        assert url.startswith("https://127.0.0.1:")
        told = {"GOAGENTS_SERVER": url, "SSL_CERT_FILE": str(folder / "cert.pem")}
        said = goagents("chat", "--cluster", "hello", "hi", cwd=folder, env=told)
        assert said.returncode == 0, said.stderr
        assert said.stdout.startswith("Hello!")
        untrusted = goagents("status", cwd=folder, env={"GOAGENTS_SERVER": url})
        assert untrusted.returncode == 1
        assert "certificate" in untrusted.stderr
        assert "SSL_CERT_FILE" in untrusted.stderr


def test_a_certificate_of_a_private_authority_is_served(folder: Path):
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
    new = ["req", "-newkey", "rsa:2048", "-nodes"]
    openssl(*new, "-x509", "-days", "2", "-subj", "/CN=ours", "-keyout", "ca.key", "-out", "ca.pem", *authority)
    openssl(*new, "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "request.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    issuer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
    openssl("x509", "-req", "-in", "request.pem", "-out", "cert.pem", *issuer)
    edit(folder / "config.yaml", "server:\n", "server:\n  tls: {cert: cert.pem, key: key.pem}\n")
    with running(cwd=folder) as server:
        told = {"GOAGENTS_SERVER": server.url, "SSL_CERT_FILE": str(folder / "ca.pem")}
        assert goagents("status", cwd=folder, env=told).returncode == 0


def test_metrics_have_their_own_port_too(folder: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    edit(folder / "config.yaml", "    enabled: true", f"    port: {port}\n    enabled: true")
    with running(cwd=folder) as server:
        assert reply(server.url)
        for address in (f"{server.url}/metrics", f"http://127.0.0.1:{port}/metrics"):
            answer = httpx2.get(address, trust_env=False, timeout=60)
            assert answer.status_code == 200
            assert "goagents_" in answer.text
        assert listeners(server) == {"127.0.0.1"}


def test_files_that_are_wrong_do_not_start(folder: Path):
    edit(folder / "cluster.yaml", "provider: scripted", "provider: openai")
    done = goagents("run", cwd=folder)
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert "cluster.yaml:" in done.stderr or "config.yaml:" in done.stderr


def test_no_file_is_a_wrong_usage(tmp_path: Path):
    done = goagents("run", cwd=tmp_path)
    assert done.returncode == 2
    assert "goagents init" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_following_logs_shows_what_happens(folder: Path):
    with running(cwd=folder) as server:
        follower = subprocess.Popen(
            [*GOAGENTS, "logs", "--cluster", "hello", "--follow", "--server", server.url],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert follower.stderr is not None
            assert "following default/hello" in follower.stderr.readline()
            time.sleep(1)
            reply(server.url, "are you there?")
            assert follower.stdout is not None
            assert "run: are you there?" in follower.stdout.readline()
            assert "finished: succeeded" in follower.stdout.readline()
            follower.send_signal(signal.SIGINT)
            assert follower.wait(60) == 0
        finally:
            follower.kill()
            follower.communicate()

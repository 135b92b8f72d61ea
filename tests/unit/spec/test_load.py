"""Reading files: several of them, their errors all at once, and what is resolved on the way."""

import json
from pathlib import Path
from typing import Any

import pytest

from goagents.errors import ConfigurationError
from goagents.spec.load import load_clusters, load_files, load_text

HEAD = "apiVersion: goagents.dev/v1\nkind: AgentCluster\nmetadata: {name: c}\nspec:\n  agents:\n"
DNS_LABEL = "must be a DNS label: lower-case letters, digits and '-', at most 63, not starting or ending with '-'"
AGENT = "    - {name: a, provider: scripted, model: m}\n"


def errors_of(text: str, environ: Any = None, source: str = "f.yaml"):
    """Return `line:column path: message` of each error."""
    with pytest.raises(ConfigurationError) as caught:
        load_text(text, source, environ=environ or {})
    return [str(error).removeprefix(f"{source}:") for error in caught.value.errors]


def agent_errors(fields: str, environ: Any = None):
    return errors_of(HEAD + f"    - {{name: a, provider: scripted, model: m, {fields}}}\n", environ)


def tool_errors(fields: str):
    return agent_errors(f"tools: [{{{fields}}}]")


class TestErrors:
    def test_all_are_reported_in_order_each_with_its_place(self):
        assert errors_of(
            'server:\n  port: "eighty"\n  prt: 1\n  timeout: 30 seconds\n'
            "apiVersion: goagents.dev/v1\nkind: AgentCluster\nmetadata: {name: My_Cluster}\n"
            "spec:\n  agents:\n    - name: a\n      provider: anthropc\n      model: x\n"
        ) == [
            "2:9: server.port: must be a whole number",
            "3:3: server.prt: unknown field; did you mean 'port'?",
            "4:12: server.timeout: is not a duration; write 300ms, 30s, 5m, 1h or 1h30m",
            f"7:18: metadata.name: {DNS_LABEL}",
            "11:17: spec.agents.0.provider: unknown provider 'anthropc'; did you mean 'anthropic'?",
        ]

    def test_of_several_files_together(self, tmp_path: Path):
        one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
        one.write_text("servr: {}\n")
        two.write_text("kind: AgentCluster\n")
        with pytest.raises(ConfigurationError) as caught:
            load_files([one, two, tmp_path / "3.yaml"], environ={})
        places = [(error.file.rsplit("/")[-1], error.path) for error in caught.value.errors]
        assert places == [
            ("1.yaml", "servr"), ("2.yaml", "apiVersion"), ("2.yaml", "metadata"), ("2.yaml", "spec"), ("3.yaml", ""),
        ]  # fmt: skip
        assert caught.value.detail == "The configuration has 5 errors"
        assert "3.yaml:1:1: cannot be read: no such file or directory" in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("server: {log_level: verbose}", "unknown value 'verbose'; known are debug, info, warning, error"),
            ("server: {metrics: {enabled: maybe}}", "must be true or false"),
            ("server: {port: 0}", "should be greater than or equal to 1"),
            ("server: {port: true}", "must be a whole number"),
            ("server: {port: 8080.5}", "must be a whole number"),
            ("server: {host: 127}", "must be a text; put it in quotes"),
            ("server: []", "must be a mapping of names to values"),
            ("server: {metrics: {path: metrics}}", "must be a path: a '/', then letters"),
            ("server: {max_body: 4 megabytes}", "is not a size"),
            ("server: {tls: {cert: a.pem}}", "server.tls.key: is required"),
            ("providers: {openia: {}}", "unknown field; did you mean 'openai'?"),
            ("providers: {anthropic: {base_url: 'ftp://x'}}", "is not a URL"),
            ("providers: {scripted: {models: {m: []}}}", "must have at least 1 item"),
            ("store: {url: 'postgres://x'}", "is not a store; write sqlite:///PATH or firestore://PROJECT/DATABASE"),
            ("auth: {}", "auth.mode: is required"),
            ("auth: {mode: api_key}", "needs at least one entry in `api_keys`"),
            ("auth: {mode: api_key, api_keys: [{name: a, hash: abc}]}", "is not a SHA-256 in hexadecimal"),
            (f"auth: {{mode: none, api_keys: [{{name: a, hash: {'a' * 64}}}]}}", "of no use in this mode"),
            ("allow: {addresses: ['http://x']}", "neither an IP address, a CIDR block"),
            ("allow: {env: ['A-B']}", "must be a name: letters, digits and '_', not starting with a digit"),
            ("mcp_servers: {kb: {}}", "needs `command`, for a program to start, or `url`"),
            ("models: {a: b, b: c, c: a}", "the aliases lead in a circle: a -> b -> c -> a"),
            ("- 1", "a document is a mapping"),
            ("hello", "a document is a mapping"),
            ("apiVersion: v1\nkind: Deployment", "unknown value 'Deployment'; known are AgentCluster"),
            ("apiVersion: goagents.dev/v2\nkind: AgentCluster", "did you mean 'goagents.dev/v1'?"),
            ("provider: {}", "provider: unknown field; did you mean 'providers'?"),
            ("server: {port: 1}\n---\nserver: {port: 2}", "3:1: server: is already given in f.yaml, line 1"),
            ("server: {port: 1, port: 2}", "1:19: server.port: stands there twice"),
        ],
    )
    def test_of_the_configuration(self, text: str, message: str):
        errors = errors_of(text)
        assert any(message in error for error in errors), errors

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ("max_turns: true", "must be a whole number"),
            ("max_turns: 0", "should be greater than or equal to 1"),
            ("temperature: 1", "spec.agents.0.temperature: unknown field"),
            ("sytem_prompt: hi", "did you mean 'system_prompt'?"),
            ("model_settings: []", "must be a mapping"),
            ("output_schema: {type: objct}", "is not a valid JSON Schema"),
            ("min_instances: 3, max_instances: 2", "`min_instances` is more than `max_instances`"),
            ("max_instances: 11", "is more than `max_concurrent_agents` (10)"),
            (
                "fallbacks: [{provider: opnai, model: x}]",
                "spec.agents.0.fallbacks.0.provider: unknown provider 'opnai'",
            ),
            ("timeout: 0s", "should be greater than 0"),
        ],
    )
    def test_of_an_agent(self, fields: str, message: str):
        errors = agent_errors(fields)
        assert len(errors) == 1
        assert message in errors[0]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ("type: htpp, name: x", "tools.0.type: unknown type 'htpp'; did you mean 'http'?"),
            ("name: x", "tools.0.type: is required: the kind of tool"),
            ("type: http, name: x", "needs `url`, or `openapi`"),
            ("type: http, name: 'a b', url: 'https://x'", "must be 1 to 64 letters, digits, '_' or '-'"),
            ("type: http, name: x, url: 'file:///etc/passwd'", "is not a URL"),
            ("type: http, name: x, url: 'https://x', method: GET", "`method` needs `parameters` beside it"),
            ("type: http, name: x, url: 'https://x', parameters: {type: object}", "`parameters` needs `method`"),
            (
                "type: http, name: x, url: 'https://x', method: GET, parameters: {}",
                "must be a JSON Schema of an object",
            ),
            (
                "type: http, name: x, openapi: 'https://x', methods: [GET]",
                "`methods` does not go together with `openapi`",
            ),
            ("type: http, name: x, url: 'https://x', include: [a]", "`include` needs `openapi`"),
            ("type: http, name: x, url: 'https://x', methods: [GRAB]", "unknown value 'GRAB'"),
            ("type: http, name: x, url: 'https://x', headers: {'a b': c}", "must be 1 to 128 letters, digits or !#"),
            ("type: http, name: x, url: 'https://x', headers: {A: \"c\\nd\"}", "must be one line"),
            ("type: http, name: x, url: 'https://x', max_output: lots", "is not a size"),
            ("type: mcp, name: x", "server: is required"),
            ("type: python, name: x", "target: is required"),
            ("type: python, name: x, target: 'a b'", "is neither `module:function`, such as shop.tools:refund, nor"),
            ("type: python, name: x, target: 'a.b:'", "is neither `module:function`"),
            ("type: python, name: x, target: 'a:b', headers: {A: b}", "a function takes no headers"),
            ("type: pyhton, name: x", "unknown type 'pyhton'; did you mean 'python'?"),
            ("type: xyz, name: x", "known are http, mcp, websocket, python"),
            ("type: mcp, name: x, server: s, sever: s", "unknown field; did you mean 'server'?"),
        ],
    )
    def test_of_a_tool(self, fields: str, message: str):
        errors = tool_errors(fields)
        assert any(message in error for error in errors), errors

    def test_duplicate_names_are_told_beside_other_errors(self):
        errors = errors_of(HEAD + AGENT + AGENT + "    - {name: b, provider: scripted, model: m, max_turns: x}\n")
        assert errors == [
            "7:14: spec.agents.1.name: the name 'a' is used already in line 6",
            "8:58: spec.agents.2.max_turns: must be a whole number",
        ]

    def test_duplicate_tools(self):
        tool = "{type: mcp, name: x, server: s}"
        (error,) = agent_errors(f"tools: [{tool}, {tool}]")
        assert "spec.agents.0.tools.1.name: the name 'x' is used already" in error

    def test_the_same_cluster_twice(self):
        (error,) = errors_of(HEAD + AGENT + "---\n" + HEAD + AGENT)
        assert error.startswith("8:1: metadata.name: the cluster 'c' is already defined in f.yaml, line 1")

    def test_no_agents(self):
        assert errors_of(HEAD.removesuffix("  agents:\n") + "  agents: []\n") == [
            "5:11: spec.agents: must have at least 1 item"
        ]

    def test_too_many_agents(self):
        agents = "".join(f"    - {{name: a{i}, provider: scripted, model: m}}\n" for i in range(201))
        assert errors_of(HEAD + agents) == ["6:5: spec.agents: must have at most 200 items"]

    def test_a_secret_never_shows_in_an_error(self):
        text = "server: {port: '${S}', log_level: '${S}'}\nproviders: {openai: {base_url: '${S}', org_id: {a: '${S}'}}}"
        errors = errors_of(text, {"S": "hunter2"})
        assert len(errors) == 4
        assert "hunter2" not in "".join(errors)


class TestReferences:
    def test_the_configuration_is_resolved_when_read(self):
        text = "server: {port: '${PORT:-9000}', host: '${HOST}', timeout: '${T}', metrics: {enabled: '${M}'}}"
        server = load_text(text, environ={"T": "5s", "M": "false"}).config.server
        assert (server.port, server.host, server.timeout, server.metrics.enabled) == (9000, "127.0.0.1", 5.0, False)

    def test_an_unset_variable_of_a_required_field(self):
        text = "auth:\n  mode: api_key\n  api_keys:\n    - name: ci\n      hash: ${CI_HASH}\n"
        assert errors_of(text) == ["5:13: auth.api_keys.0.hash: is required, and the variable CI_HASH is not set"]

    def test_an_unset_variable_in_a_list(self):
        assert errors_of("allow:\n  env: [A, '${B}']\n") == ["2:12: allow.env.1: the variable B is not set"]

    def test_a_malformed_reference(self):
        (error,) = errors_of("store: {url: '${}'}")
        assert "1:14: store.url: '${…}' holds no variable name" in error

    def test_secret_managers_are_refused(self):
        (error,) = errors_of("providers: {openai: {api_key: '${secret:openai}'}}")
        assert "providers.openai.api_key: ${secret:…} is not implemented in this version" in error

    def test_a_cluster_keeps_its_references_but_for_provider_and_model(self):
        text = (
            "providers: {scripted: {models: {m2: [{text: hi}]}}}\n" + HEAD
            + "    - {name: a, provider: '${P:-scripted}', model: 'm${N}', system_prompt: 'for ${WHO}',"
            + " tools: [{type: http, name: t, url: '${BASE}/x', headers: {Authorization: 'Bearer ${KEY}'}}]}\n"
        )  # fmt: skip
        environ = {"N": "2", "WHO": "you", "BASE": "https://b", "KEY": "hunter2"}
        (cluster,) = load_text(text, environ=environ).clusters
        agent = cluster.agent("a")
        assert (agent.provider, agent.model, agent.system_prompt) == ("scripted", "m2", "for ${WHO}")
        assert (agent.tools[0].url, agent.tools[0].headers) == ("${BASE}/x", {"Authorization": "Bearer ${KEY}"})
        assert "hunter2" not in json.dumps(cluster.manifest())

    def test_what_a_cluster_refers_to_must_be_set(self):
        text = HEAD + "    - name: a\n      provider: scripted\n      model: ${MODEL}\n      system_prompt: hi ${WHO}\n"
        assert errors_of(text) == ["8:14: spec.agents.0.model: is required, and the variable MODEL is not set"]
        assert errors_of(text, {"MODEL": "m"}) == ["9:22: spec.agents.0.system_prompt: the variable WHO is not set"]

    def test_json_schemas_hold_no_references(self):
        text = HEAD + "    - {name: a, provider: scripted, model: m, output_schema: {title: 'in ${x}'}}\n"
        assert load_text(text, environ={}).clusters[0].agent("a").output_schema == {"title": "in ${x}"}


class TestKeys:
    def cluster(self, provider: str, fallback: str = ""):
        return HEAD + f"    - {{name: a, provider: {provider}, model: m{fallback}}}\n"

    def test_a_provider_without_a_section(self):
        (error,) = errors_of(self.cluster("openai"))
        assert error.startswith("6:27: spec.agents.0.provider: `providers.openai.api_key` is missing")
        assert "OPENAI_API_KEY" in error

    def test_its_usual_variable_stands_in(self):
        assert load_text(self.cluster("openai"), environ={"OPENAI_API_KEY": "k"}).config.providers.openai is None

    def test_but_not_for_another_variable_that_was_named(self):
        text = "providers: {openai: {api_key: '${MINE}'}}\n" + self.cluster("openai")
        (error,) = errors_of(text, {"OPENAI_API_KEY": "k"})
        assert (
            "providers.openai.api_key: the variable MINE is not set; the provider is in use by the agent 'a'" in error
        )

    def test_a_fallback_needs_its_key_too(self):
        text = self.cluster("scripted", ", fallbacks: [{provider: gemini, model: g}]")
        (error,) = errors_of(text)
        assert "spec.agents.0.fallbacks.0.provider: `providers.gemini.api_key` is missing" in error
        assert "GOOGLE_API_KEY" in error

    def test_a_scripted_model_must_be_declared_where_others_are(self):
        scripts = "providers: {scripted: {models: {support: [{text: hi}]}}}\n"
        (error,) = errors_of(scripts + self.cluster("scripted").replace("model: m", "model: suport"))
        assert "spec.agents.0.model: `providers.scripted.models` has no 'suport'; did you mean 'support'?" in error

    def test_a_script_for_any_model_serves_any_name(self):
        scripts = "providers: {scripted: {models: {'*': [{text: hi}]}}}\n"
        assert len(load_text(scripts + self.cluster("scripted"), environ={}).clusters) == 1

    def test_a_misspelt_model_is_a_warning(self):
        text = self.cluster("anthropic").replace("model: m", "model: claude-sonet-5-5")
        (warning,) = load_text(text, environ={"ANTHROPIC_API_KEY": "k"}).warnings
        assert "did you mean 'claude-sonnet-5-5'?" in warning.message


class TestFiles:
    def test_sections_and_clusters_of_several_files_come_together(self, tmp_path: Path):
        (tmp_path / "config.yaml").write_text("server: {port: 9000}\n---\nmodels: {fast: gpt-5.4-mini}\n")
        (tmp_path / "cluster.yml").write_text(HEAD + AGENT + "---\n" + HEAD.replace("name: c", "name: d") + AGENT)
        (tmp_path / "store.json").write_text('{"store": {"url": "sqlite:///x.db"}}')
        loaded = load_files([tmp_path / name for name in ("config.yaml", "cluster.yml", "store.json")], environ={})
        assert loaded.config.server.port == 9000
        assert loaded.config.models == {"fast": "gpt-5.4-mini"}
        assert loaded.config.store.url == "sqlite:///x.db"
        assert [cluster.name for cluster in loaded.clusters] == ["c", "d"]
        assert loaded.sources == tuple(str(tmp_path / name) for name in ("config.yaml", "cluster.yml", "store.json"))

    def test_a_file_given_twice_is_read_once(self, tmp_path: Path):
        path = tmp_path / "all.yaml"
        path.write_text("server: {port: 9000}\n" + HEAD + AGENT)
        loaded = load_files([path, tmp_path / "." / "all.yaml"], environ={})
        assert len(loaded.clusters) == len(loaded.sources) == 1

    def test_relative_paths_start_at_their_file(self, tmp_path: Path):
        path = tmp_path / "conf" / "all.yaml"
        path.parent.mkdir()
        path.write_text(
            "server: {tls: {cert: c.pem, key: /etc/k.pem}}\nca_bundle: ../ca.pem\n" + HEAD
            + "    - {name: a, provider: scripted, model: m, tools: [{type: http, name: t, openapi: api.yaml},"
            + " {type: http, name: u, openapi: 'https://x/api.yaml'}]}\n"
        )  # fmt: skip
        loaded = load_files([path], environ={})
        assert loaded.config.server.tls.cert == str(tmp_path / "conf" / "c.pem")
        assert loaded.config.server.tls.key == "/etc/k.pem"
        assert loaded.config.ca_bundle == str(tmp_path / "ca.pem")
        assert [tool.openapi for tool in loaded.clusters[0].agent("a").tools] == [
            str(tmp_path / "conf" / "api.yaml"),
            "https://x/api.yaml",
        ]

    def test_a_folder_cannot_be_read(self, tmp_path: Path):
        with pytest.raises(ConfigurationError, match="cannot be read: is a directory"):
            load_files([tmp_path], environ={})

    def test_invalid_utf8_names_its_place(self, tmp_path: Path):
        path = tmp_path / "f.yaml"
        path.write_bytes(b"server:\n  host: \xff\n")
        with pytest.raises(ConfigurationError, match=r"f\.yaml:2:9: is not UTF-8"):
            load_files([path], environ={})

    def test_a_huge_file(self, tmp_path: Path):
        path = tmp_path / "f.yaml"
        path.write_bytes(b"#" * (4 * 2**20 + 1))
        with pytest.raises(ConfigurationError, match="is larger than 4 MiB"):
            load_files([path], environ={})

    def test_an_empty_file_is_the_defaults(self, tmp_path: Path):
        path = tmp_path / "f.yaml"
        path.write_text("# nothing\nserver:\nmodels:\n")
        loaded = load_files([path], environ={})
        assert loaded.clusters == ()
        assert loaded.config.server.port == 8080

    def test_a_byte_order_mark_is_no_error(self, tmp_path: Path):
        path = tmp_path / "f.yaml"
        path.write_bytes(b"\xef\xbb\xbfserver: {port: 9000}\n")
        assert load_files([path], environ={}).config.server.port == 9000

    def test_clusters_to_send_need_nothing_of_the_server(self, tmp_path: Path):
        path = tmp_path / "f.yaml"
        agent = "    - {name: a, provider: openai, model: '${M:-gpt-5.4}', system_prompt: '${ON_SERVER}'}\n"
        path.write_text("auth: {mode: api_key, api_keys: [{name: a, hash: '${H}'}]}\n" + HEAD + agent)
        (cluster,) = load_clusters([path], environ={})
        assert (cluster.agent("a").model, cluster.agent("a").system_prompt) == ("gpt-5.4", "${ON_SERVER}")

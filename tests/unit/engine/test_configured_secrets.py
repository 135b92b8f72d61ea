"""Which values of the configuration no result may hold."""

from goagents.engine.calling.secrets import configured_secrets
from goagents.secrets.environment import EnvironmentSecrets
from goagents.settings import Settings
from goagents.spec.config import Config
from goagents.spec.interpolation import Resolver


def test_a_plain_value_is_no_secret_whatever_its_name():
    env = {
        **{f"A{number}_TOKEN": value for number, value in enumerate(("true", "False", "YES", "no", "on", "off"))},
        **{f"B{number}_AUTH": value for number, value in enumerate(("none", "Null", "3600", "-1", "0.5", "1234567"))},
        "PIN_SECRET": "12345678",
        "HEX_SECRET": "1234abc",
        "WORD_SECRET": "nonesuch",
    }
    config = Config.model_validate(
        {"mcp_servers": {"files": {"command": "files", "env": env}}, "providers": {"openai": {"api_key": "none"}}}
    )
    found = configured_secrets(config, Settings(), Resolver({"env": EnvironmentSecrets({})})) - {""}
    assert found == {"12345678", "1234abc", "nonesuch", "none"}, "what is a key by its place stays one"


def test_what_is_secret_by_its_name_in_headers_and_in_variables_of_what_is_started():
    started = {"source": "tools.py", "port": 8091, "variable": "ORDERS_URL"}
    config = Config.model_validate(
        {
            "providers": {"openai": {"api_key": "k-openai"}},
            "mcp_servers": {
                "web": {
                    "url": "https://x.example/mcp",
                    "headers": {"Authorization": "Bearer t-web", "Accept": "a-web"},
                },
                "files": {"command": "files", "env": {"FILES_TOKEN": "t-files", "LOG_LEVEL": "warning"}},
            },
            "tool_functions": {
                "orders": {**started, "env": {"ORDERS_PASSWORD": "p-orders", "ORDERS_KEY_FILE": "keys.db"}}
            },
        }
    )
    resolver = Resolver({"env": EnvironmentSecrets({})})
    found = configured_secrets(config, Settings(internal_key="k-internal"), resolver) - {""}
    assert found == {"k-openai", "Bearer t-web", "t-web", "t-files", "p-orders", "k-internal"}

"""Which values of the configuration no result may hold."""

from goagents.engine.calling.secrets import configured_secrets
from goagents.secrets.environment import EnvironmentSecrets
from goagents.settings import Settings
from goagents.spec.config import Config
from goagents.spec.interpolation import Resolver


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

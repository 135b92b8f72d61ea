"""The files that `init` writes."""

_CONFIG = """\
# The server's configuration. Every field: `goagents schema`. Check this file: `goagents validate config.yaml`

server:
  host: 127.0.0.1
  port: 8080
  timeout: 120s          # the longest a request may take
  log_level: info        # debug, info, warning, error
  metrics:
    enabled: true        # Prometheus reads http://127.0.0.1:8080/metrics

# Keys come from the environment: ${VAR} is resolved where it is used, and never stored or shown.
# A provider that no agent uses needs no key.
providers:
  anthropic:
    api_key: "${ANTHROPIC_API_KEY}"
  openai:
    api_key: "${OPENAI_API_KEY}"
  gemini:
    api_key: "${GOOGLE_API_KEY}"
{scripted}
# Where state is kept; GOAGENTS_STORE goes before it.
store:
  url: sqlite:///.goagents/goagents.db     # in production: firestore://PROJECT/(default)

# Without `auth:` only this machine is served. `goagents keys new NAME` makes a key, and prints what belongs here:
# auth:
#   mode: api_key
#   api_keys:
#     - name: NAME
#       hash: SHA-256 of the key
"""

_SCRIPTED = """\
  # Models that follow a script: no key, prepared answers. The first step that fits answers.
  scripted:
    models:
      greeter:
        - when: "(?i)my name is (?P<name>[A-Za-z]+)"
          text: "Hello {name}! I follow a script; set a provider's key to talk to a real model."
        - text: "Hello! I follow a script, so all I can do is repeat: {user}"
"""

_CLUSTER = """\
# A cluster of agents. Serve it: `goagents run`. Put it on a server: `goagents deploy --cluster cluster.yaml`
apiVersion: goagents.dev/v1
kind: AgentCluster
metadata:
  name: hello
  namespace: default
spec:
  resource_policy:
    max_concurrent_agents: 5     # runs at the same time; more wait, then get 429
    idle_timeout: 300s           # an instance not used for so long is gone
    scale_to_zero: true
  agents:
    - name: assistant
      description: Answers questions.
      provider: {provider}
      model: {model}
      system_prompt: |
        You are a friendly assistant. Answer in one or two sentences.
      # A tool: the model may call this address and what lies below it, and no other.
      # tools:
      #   - type: http
      #     name: customers
      #     description: Customers by id, at /ID.
      #     url: https://api.example.com/customers
"""


def config_yaml(provider: str) -> str:
    return _CONFIG.replace("{scripted}", _SCRIPTED if provider == "scripted" else "")


def cluster_yaml(provider: str, model: str) -> str:
    return _CLUSTER.replace("{provider}", provider).replace("{model}", model)

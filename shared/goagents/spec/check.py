"""What only the cluster and the configuration together tell: keys of providers, variables, scripted models."""

from collections.abc import Iterator, Mapping

from goagents.errors import ConfigurationError, FieldError

from .cluster import AgentCluster
from .config import Config, ProviderConfig
from .document import Node
from .interpolation import Resolver, cluster_texts
from .models import RETIRED, misspelt_model, nearest, resolve_model
from .problems import error_at, field_error
from .references import ENVIRONMENT

KEY_VARIABLES: Mapping[str, str] = {
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "gemini": "GOOGLE_API_KEY",
}


ANY_SCRIPT = "*"  # the script of models without one of their own


def missing_key(config: Config, provider: str) -> str:
    """Return what to say about the missing key of `provider`: which variable to set."""
    unset = config.unset_reference(f"providers.{provider}.api_key")
    if unset is not None:
        return f"the variable {unset} is not set"
    variable = KEY_VARIABLES[provider]
    return f'is not set: write `api_key: "${{{variable}}}"` and set the variable {variable}'


def check_use(
    cluster: AgentCluster, node: Node, config: Config, sections: Node, environ: Mapping[str, str]
) -> Iterator[FieldError]:
    """Yield what a trusted `cluster` (read from `node`) uses and is not there: variables, keys, scripted models."""
    resolver = Resolver({ENVIRONMENT: environ})
    for path, text in cluster_texts(cluster):
        try:
            resolver.resolve(text)
        except ConfigurationError as error:
            yield error_at(node, path, error.detail)
    for path, agent, provider, model in _models(cluster):
        if provider in KEY_VARIABLES:
            yield from _key(path, agent, provider, node, config, sections, environ)
        elif config.providers.scripted is not None:
            scripts = config.providers.scripted.models
            if scripts and not {resolve_model(model, config.models), ANY_SCRIPT} & scripts.keys():
                guess = nearest(model, scripts)
                hint = f"did you mean '{guess}'?" if guess else "declare it there"
                message = f"`providers.scripted.models` has no '{model}'; {hint}"
                yield error_at(node, f"{path}.model", message)


def _key(
    path: str,
    agent: str,
    provider: str,
    node: Node,
    config: Config,
    sections: Node,
    environ: Mapping[str, str],
) -> Iterator[FieldError]:
    section = config.provider(provider)
    if isinstance(section, ProviderConfig) and section.api_key is not None:
        return
    unset = config.unset_reference(f"providers.{provider}.api_key")
    if unset is None and environ.get(KEY_VARIABLES[provider]):
        return  # the provider's usual variable stands in for an api_key that is not written
    field = f"providers.{provider}.api_key"
    place = _find(sections, field)
    if place is not None:
        message = f"{missing_key(config, provider)}; the provider is in use by the agent '{agent}'"
        yield field_error(field, message, place.mark)
        return
    variable = KEY_VARIABLES[provider]
    message = f'`{field}` is missing: write `api_key: "${{{variable}}}"` there and set the variable {variable}'
    yield error_at(node, f"{path}.provider", message)


def _models(cluster: AgentCluster) -> Iterator[tuple[str, str, str, str]]:
    """Yield path, agent, provider and model of each model that an agent may call."""
    for i, agent in enumerate(cluster.spec.agents):
        yield f"spec.agents.{i}", agent.name, agent.provider, agent.model
        for j, fallback in enumerate(agent.fallbacks):
            yield f"spec.agents.{i}.fallbacks.{j}", agent.name, fallback.provider, fallback.model


def warn(cluster: AgentCluster, node: Node, config: Config) -> Iterator[FieldError]:
    """Yield what is valid and is probably not meant: a misspelt model, one its vendor retires."""
    for path, _, provider, model in _models(cluster):
        if provider == "scripted":
            continue
        resolved = resolve_model(model, config.models)
        guess = misspelt_model(model, config.models)
        if guess is not None:
            message = f"the model '{model}' is not known here; did you mean '{guess}'?"
            yield error_at(node, f"{path}.model", message)
        if day := RETIRED.get(resolved):
            message = (
                f"{provider} serves '{resolved}' until {day} only; name another model, or map this name in `models:`"
            )
            yield error_at(node, f"{path}.model", message)


def _find(node: Node, path: str) -> Node | None:
    found: Node | None = node
    for part in path.split("."):
        if found is None:
            return None
        found = found.child(int(part) if isinstance(found.value, list) and part.isdigit() else part)
    return found

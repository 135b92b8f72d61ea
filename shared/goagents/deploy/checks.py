"""What has to be right before anything is deployed: the source, and the configuration the functions will read."""

import posixpath
from pathlib import Path

from goagents.errors import ConfigurationError, FieldError, Invalid
from goagents.spec.load import load_files

from .digest import PARTS
from .gcloud import Gcloud
from .target import CONFIG, Target


def check_source(source: Path, config: str) -> None:
    """Raise Invalid where `source` is not the repository, or does not hold the configuration `config`."""
    missing = [part for part in PARTS if not (source / part).exists()]
    if missing:
        raise Invalid(
            f"{source}: this is not the source of GoAgents, {', '.join(missing)} is not there: be in the repository, "
            "or name it by --source."
        )
    inside = (source / config).resolve()
    if Path(config).is_absolute() or not inside.is_file() or not inside.is_relative_to(source.resolve()):
        raise Invalid(f"{config}: there is no such file in {source.resolve()}; --config is relative to the source.")


def check_uploaded(target: Target, gcloud: Gcloud) -> None:
    """Ask gcloud, which asks nobody, whether the functions would get their configuration.

    Raises Invalid where `.gcloudignore` leaves it out, GcloudFailed.
    """
    listed = gcloud.read(("meta", "list-files-for-upload", str(target.source)))
    if posixpath.normpath(target.config) not in (listed or ()):
        raise Invalid(
            f"{target.config}: the functions would not get it, {target.source / '.gcloudignore'} leaves it out: put it "
            f"into {posixpath.dirname(CONFIG)}, as a file *.yaml, or let it through there."
        )


def check_configuration(target: Target) -> None:
    """Read the configuration as the functions will, with their variables.

    Raises ConfigurationError for what is wrong in it, and where it would let callers name themselves as they like.
    """
    path = target.source / target.config
    environ = target.environment(target.server) | dict.fromkeys(target.secrets, "from Secret Manager")
    config = load_files([path], environ=environ).config
    mode = config.auth.mode if config.auth else "platform"
    wrong = None
    if mode == "none":
        wrong = "`none` serves this machine only, so on Cloud Run nobody: write `mode: platform` or `api_key`"
    if mode == "platform" and target.allow_unauthenticated:
        wrong = (
            "`platform` trusts who Cloud Run let in, and --allow-unauthenticated lets in everybody: write "
            "`mode: api_key` with `api_keys` (goagents keys new)"
        )
    if wrong:
        raise ConfigurationError(f"{path}: auth.mode: {wrong}", errors=[FieldError("auth.mode", wrong, str(path))])

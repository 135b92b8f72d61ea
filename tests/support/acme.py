"""The package of tests/support/plugins/acme as an installation has it."""

import shutil
from pathlib import Path

PACKAGE = Path(__file__).parent / "plugins" / "acme"
_METADATA = "Metadata-Version: 2.1\nName: acme-tools\nVersion: 1.0\n"


def unpacked(folder: Path) -> Path:
    """Put the package into `folder` as an installer would, without starting one, and return the folder."""
    shutil.copytree(PACKAGE / "acme_tools", folder / "acme_tools", ignore=shutil.ignore_patterns("__pycache__"))
    about = folder / "acme_tools-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(_METADATA)
    project = (PACKAGE / "pyproject.toml").read_text()
    points = project.partition('[project.entry-points."goagents.tools"]')[2].replace('"', "")
    (about / "entry_points.txt").write_text(f"[goagents.tools]{points}")
    return folder

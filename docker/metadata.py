"""Writes the metadata of a package that is copied, not installed, so that ``importlib.metadata`` knows its version.

python metadata.py PYPROJECT FOLDER
"""

import sys
import tomllib
from pathlib import Path

pyproject, folder = map(Path, sys.argv[1:])
project = tomllib.loads(pyproject.read_text())["project"]
info = folder / f"{project['name']}-{project['version']}.dist-info"
info.mkdir()
(info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")

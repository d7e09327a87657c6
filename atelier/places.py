"""Where the command line finds the service and the store, where it speaks, and where it puts files."""

import json
from pathlib import Path

from rich.console import Console

from atelier.settings import LauncherSettings
from contract.errors import InvalidParameterError, SettingsError
from contract.settings import load
from contract.storage import open_storage
from contract.styles import StyleStore

out = Console(markup=False, emoji=False)
complaints = Console(stderr=True, markup=False, emoji=False)


def style_store() -> StyleStore:
    """The styles of the service on the data folder, or of ATELIER_STORE."""
    return StyleStore(open_storage(load(LauncherSettings).store_url))


def service_url() -> str:
    """Where the service is: ATELIER_URL, or what the launcher wrote into the data folder."""
    settings = load(LauncherSettings)
    if settings.url:
        return settings.url
    try:
        return str(json.loads((settings.data / "service.json").read_text())["url"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(
            f"No service runs on the data folder {settings.data}: start one with `make run`, or say where it is with "
            "ATELIER_URL."
        ) from None


def make_folder(folder: Path, parameter: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidParameterError(f"{folder} cannot be made ({error.strerror}).", parameter=parameter) from error


def save(output: Path, data: bytes) -> None:
    """Writes a file, and says so."""
    try:
        output.write_bytes(data)
    except OSError as error:
        raise InvalidParameterError(f"{output} cannot be written ({error.strerror}).", parameter="output") from error
    out.print(f"{output}: {len(data):,} bytes", soft_wrap=True)

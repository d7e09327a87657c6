"""``atelier keys``: the keys that the service may be called with, in the file of ATELIER_API_KEYS."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from atelier.places import complaints, out
from atelier.settings import LauncherSettings
from contract.errors import SettingsError
from contract.keys import Key, Scope, add_key, hash_of, new_secret, read_keys, remove_key
from contract.settings import load

app = typer.Typer(no_args_is_help=True, help="The keys that the service may be called with.")

Name = Annotated[str, typer.Argument(help="Whose key it is: a-z, 0-9, _ and -.")]
DEFAULT = "default"


@app.command()
def create(
    name: Name,
    scope: Annotated[list[Scope], typer.Option(help="What it is good for; may be given several times.")],
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="Requests that make jobs.")] = None,
    uploads: Annotated[int | None, typer.Option(min=1, help="Uploads that may come in at once.")] = None,
) -> None:
    """Makes a key and shows it, once: the file holds its hash only. Running gateways take it at once."""
    secret = new_secret()
    key = Key(hash=hash_of(secret), scopes=frozenset(scope), requests_per_minute=requests_per_minute, uploads=uploads)
    add_key(_path(), name, key)
    complaints.print(f"The key of {name}, which is not shown again:", soft_wrap=True)
    out.print(secret, soft_wrap=True)


@app.command("list")
def list_keys() -> None:
    """Lists whose keys there are, and what they are good for."""
    table = Table("key", "scopes", "requests per minute", "uploads at once")
    for name, key in sorted(read_keys(_path()).items()):
        scopes = ", ".join(scope for scope in Scope if scope in key.scopes)
        table.add_row(name, scopes, str(key.requests_per_minute or DEFAULT), str(key.uploads or DEFAULT))
    out.print(table)


@app.command()
def revoke(name: Name) -> None:
    """Takes a key away. Running gateways refuse it at once."""
    remove_key(_path(), name)
    out.print(f"{name} has no key any more.", soft_wrap=True)


def _path() -> Path:
    path = load(LauncherSettings).api_keys
    if path is None:
        raise SettingsError("Which file of keys? Name it with ATELIER_API_KEYS, here and for the service.")
    return path

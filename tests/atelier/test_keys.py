"""``atelier keys``: what it says, and what it writes."""

import re
from pathlib import Path

from contract.keys import Scope, hash_of, read_keys
from tests.atelier.conftest import CommandLine


def test_a_key_is_shown_once_and_only_its_hash_is_kept(tmp_path: Path, atelier: CommandLine) -> None:
    path = tmp_path / "keys.toml"
    file = {"ATELIER_API_KEYS": str(path)}
    said = atelier.output("keys", "create", "phone", "--scope", "stylize", "--scope", "train",
                          "--requests-per-minute", "60", **file)  # fmt: skip
    (secret,) = said.split()
    key = read_keys(path)["phone"]
    assert (key.hash, key.scopes) == (hash_of(secret), frozenset({Scope.STYLIZE, Scope.TRAIN}))
    assert (key.requests_per_minute, key.uploads) == (60, None)
    assert secret not in path.read_text()
    listed = atelier.output("keys", "list", **file)
    assert re.search(r"phone.*stylize, train.*60.*default", listed)
    assert "already" in atelier.refusal("keys", "create", "phone", "--scope", "admin", **file)
    assert "no key" in atelier.output("keys", "revoke", "phone", **file)
    assert "phone" not in atelier.output("keys", "list", **file)
    assert "no key 'phone'" in atelier.refusal("keys", "revoke", "phone", **file)


def test_without_a_file_the_command_line_asks_for_one(atelier: CommandLine) -> None:
    assert "ATELIER_API_KEYS" in atelier.refusal("keys", "list")

"""The file of keys: what may stand in it, and that the command changes what it should and nothing else."""

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.errors import InvalidParameterError, SettingsError
from contract.keys import KEY_BYTES, Key, Scope, add_key, hash_of, new_secret, read_keys, remove_key

HASH = hash_of("atl_one")
STYLIZE = frozenset({Scope.STYLIZE})


def a_key(secret: str = "atl_one") -> Key:
    return Key(hash=hash_of(secret), scopes=STYLIZE)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_a_key_has_all_its_bits_and_is_known_by_its_beginning() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(re.fullmatch(rf"atl_[A-Za-z0-9_-]{{{-(-KEY_BYTES * 8 // 6)}}}", secret) for secret in secrets)


def test_the_hash_is_that_of_the_documented_command_line() -> None:
    """``printf %s atl_one | sha256sum``"""
    assert HASH == "sha256:5735f44cc0056d0eee9c592411fb75763c3dee175924b7ff6a65c59b35c0a439"


def test_what_is_written_is_what_is_read(path: Path) -> None:
    keys = {
        "phone": Key(hash=HASH, scopes=frozenset(Scope), requests_per_minute=60, uploads=2),
        "a-b_9": a_key("atl_two"),
    }
    for name, key in keys.items():
        add_key(path, name, key)
    assert read_keys(path) == keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_who_may_read_the_file_stays_as_it_was(path: Path) -> None:
    add_key(path, "one", a_key())
    path.chmod(0o644)
    add_key(path, "two", a_key("atl_two"))
    remove_key(path, "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_the_rest_of_the_file_stays_as_it_was(path: Path) -> None:
    one, two = (f'hash = "{hash_of(name)}"\nscopes = [\n  "stylize",\n]\n' for name in ("atl_one", "atl_two"))
    text = f"# ours\n[keys.one]  # first\n{one}# inside\nuploads = 1\n\n# the second one\n[keys.two]\n{two}"
    path.write_text(text)
    add_key(path, "three", a_key("atl_three"))
    assert path.read_text().startswith(text)
    remove_key(path, "one")
    remove_key(path, "three")
    assert path.read_text() == f"# ours\n\n# the second one\n[keys.two]\n{two}\n"


def test_a_file_that_is_written_in_another_way_is_left_alone(path: Path) -> None:
    text = f'keys = {{ one = {{ hash = "{HASH}", scopes = ["stylize"] }} }}\n'
    path.write_text(text)
    with pytest.raises(SettingsError, match="change it by hand"):
        add_key(path, "two", a_key("atl_two"))
    with pytest.raises(SettingsError, match="change it by hand"):
        remove_key(path, "one")
    assert path.read_text() == text


def test_many_who_write_at_once_lose_nothing(path: Path) -> None:
    names = [f"key{number}" for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: add_key(path, name, a_key(name)), names))
    assert set(read_keys(path)) == set(names)


@pytest.mark.parametrize("name", ["", "Phone", "a b", "a.b", "x" * 65, "ä"])
def test_a_name_that_is_none_is_refused(path: Path, name: str) -> None:
    with pytest.raises(InvalidParameterError, match="is no name"):
        add_key(path, name, a_key())
    assert not path.exists()


def test_a_name_is_given_once_and_taken_away_once(path: Path) -> None:
    add_key(path, "one", a_key())
    with pytest.raises(InvalidParameterError, match="already"):
        add_key(path, "one", a_key("atl_two"))
    remove_key(path, "one")
    with pytest.raises(InvalidParameterError, match="no key 'one'"):
        remove_key(path, "one")


BROKEN = {
    "no file": (None, "no such file"),
    "no TOML": ("[keys.one\n", "line 1"),
    "no text": (b"\xff\xfe", "utf-8"),
    "no hash": ('[keys.one]\nscopes = ["stylize"]', "keys.one.hash: Field required"),
    "a key instead of its hash": ('[keys.one]\nhash = "atl_one"\nscopes = ["stylize"]', "keys.one.hash"),
    "no scope": (f'[keys.one]\nhash = "{HASH}"\nscopes = []', "keys.one.scopes"),
    "an unknown scope": (f'[keys.one]\nhash = "{HASH}"\nscopes = ["fly"]', "keys.one.scopes"),
    "an unknown field": (f'[keys.one]\nhash = "{HASH}"\nscopes = ["train"]\nx = 1', "keys.one.x"),
    "a quota of nothing": (f'[keys.one]\nhash = "{HASH}"\nscopes = ["train"]\nuploads = 0', "keys.one.uploads"),
    "a name that is none": (f'[keys."One"]\nhash = "{HASH}"\nscopes = ["train"]', "keys.One"),
    "another table": ("[kees.one]", "kees"),
    "one hash twice": (
        "".join(f'[keys.{name}]\nhash = "{HASH}"\nscopes = ["train"]\n' for name in ("one", "two")),
        "one and two have the same hash",
    ),
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(
    path: Path, text: str | bytes | None, reason: str
) -> None:
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError, match="ATELIER_API_KEYS") as refused:
        read_keys(path)
    assert reason in str(refused.value)
    assert "atl_one" not in str(refused.value)

"""Clients: who a request is from, and what its key is good for."""

import hmac
from dataclasses import dataclass
from pathlib import Path

import structlog

from contract.errors import JobNotFoundError, SettingsError
from contract.jobs import JobRecord
from contract.keys import Key, Scope, hash_of, read_keys
from service.settings import ServiceSettings

log = structlog.get_logger()


@dataclass(frozen=True)
class Client:
    """Whoever a request is from."""

    name: str
    """Of its key; empty for anybody, where no keys are needed."""
    scopes: frozenset[Scope]
    requests_per_minute: int | None = None
    """None is as many as it likes."""
    uploads: int | None = None
    """Bodies of its that may come in at once; None is as many as there is room for."""

    @property
    def has_key(self) -> bool:
        return bool(self.name)

    @property
    def sees(self) -> str | None:
        """Whose jobs: those of the client with this name, or, None, everybody's."""
        return None if Scope.ADMIN in self.scopes else self.name

    def own(self, record: JobRecord) -> JobRecord:
        """The job, if it is this client's to see. Raises JobNotFoundError, as for a job that there is not."""
        if self.sees not in (None, record.client):
            raise JobNotFoundError("There is no job with this id.")
        return record


ANYBODY = Client("", frozenset(Scope))
"""Where no keys are needed."""
STRANGER = Client("", frozenset())
"""Somebody without a valid key, where one is needed."""


class KeyRing:
    """The keys of the file as it is now. A file that has become unusable changes nothing until it is mended."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Raises SettingsError when there is a file and it cannot be used."""
        self._settings = settings
        self._path = settings.api_keys
        self._keys: dict[str, Key] = {}
        self._version: object = None
        """Of the file that the keys were read from."""
        self._trouble = ""
        if self._path:
            self._version, self._keys = _version(self._path), read_keys(self._path)

    @property
    def needed(self) -> bool:
        """Whether a key is needed at all."""
        return self._path is not None

    def client(self, secret: str) -> Client:
        """Whose key this is: ANYBODY where none is needed, STRANGER when it is nobody's."""
        if not self._path:
            return ANYBODY
        self._keep_up(self._path)
        sent, found = hash_of(secret), STRANGER
        for name, key in self._keys.items():  # all of them: how long it takes tells nothing
            if hmac.compare_digest(sent, key.hash):
                found = self._of(name, key)
        return found

    def _of(self, name: str, key: Key) -> Client:
        return Client(
            name,
            key.scopes,
            key.requests_per_minute or self._settings.requests_per_minute,
            key.uploads or self._settings.max_uploads_per_key,
        )

    def _keep_up(self, path: Path) -> None:
        """Reads the file again if it has changed; one that cannot be used is tried each time, for it may be mended."""
        version = _version(path)
        if version == self._version:
            self._trouble = ""
            return
        try:
            self._keys = read_keys(path)
        except SettingsError as error:
            if str(error) != self._trouble:
                log.critical("keys stay as they were", reason=str(error))
            self._trouble = str(error)
        else:
            self._version, self._trouble = version, ""
            log.info("keys read again", keys=sorted(self._keys))


def _version(path: Path) -> object:
    """Another one for every text of the file, and for everything else that is done to it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns, found.st_mtime_ns, found.st_size

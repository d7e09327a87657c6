"""Pictures between the processes: kept in a store under the hash of their bytes, never sent through the queue."""

import hashlib
from collections.abc import Container
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import obstore
from obstore.store import ObjectStore
from pydantic import BaseModel, ConfigDict, Field

from contract.storage import store_errors


class MediaType(StrEnum):
    """The formats that go in and come out."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    AVIF = "image/avif"

    @property
    def keeps_alpha(self) -> bool:
        return self is not MediaType.JPEG

    @property
    def suffix(self) -> str:
        return "jpg" if self is MediaType.JPEG else self.value.removeprefix("image/")


def fitted(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """(width, height) with the proportions of ``size`` and this long side, in whole pixels.

    The gateway holds against its limits what the worker makes, so both must round alike.
    """
    longest = max(size)
    width, height = (max(1, round(side * long_side / longest)) for side in size)
    return width, height


class ImageRef(BaseModel):
    """A picture in the store, by the SHA-256 of its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)

    @property
    def path(self) -> str:
        return f"images/{self.sha256[:2]}/{self.sha256}"


class ImageStore:
    """Encoded pictures by hash. They are swept when nothing has put them again for a while."""

    def __init__(self, storage: ObjectStore) -> None:
        self._storage = storage

    def put(self, data: bytes) -> ImageRef:
        """Keeps the picture, and makes an old one young again. Raises StoreUnavailableError."""
        ref = ImageRef(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        with store_errors():
            obstore.put(self._storage, ref.path, data)
        return ref

    def open(self, ref: ImageRef) -> bytes:
        """Raises FileNotFoundError when it has been swept, StoreUnavailableError when the store is out of reach."""
        with store_errors():
            return bytes(obstore.get(self._storage, ref.path).bytes())

    def has(self, ref: ImageRef) -> bool:
        """Whether it has not been swept. Raises StoreUnavailableError."""
        try:
            with store_errors():
                obstore.head(self._storage, ref.path)
        except FileNotFoundError:
            return False
        return True

    def sweep(self, older_than: timedelta, in_use: Container[str]) -> int:
        """Deletes the pictures that were last put longer ago than this and whose hash is not in use; how many."""
        deadline = datetime.now(UTC) - older_than
        swept = 0
        with store_errors():
            for page in obstore.list(self._storage, prefix="images"):
                for found in page:
                    path = found["path"]
                    if path.rsplit("/", 1)[-1] not in in_use and self._is_old(path, deadline):
                        obstore.delete(self._storage, path)
                        swept += 1
        return swept

    def _is_old(self, path: str, deadline: datetime) -> bool:
        """Asked of each picture at its turn: a listing takes a while, and it may have been put again meanwhile."""
        try:
            return obstore.head(self._storage, path)["last_modified"] < deadline
        except FileNotFoundError:
            return False

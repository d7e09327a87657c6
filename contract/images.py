"""Pictures between the processes: kept in a store under the hash of their bytes, never sent through the queue."""

import hashlib
import io
from collections.abc import Container
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import obstore
from obstore.store import ObjectStore
from pydantic import BaseModel, ConfigDict, Field

from contract.errors import ImageTooComplexError
from contract.storage import store_errors, store_time

HEADER_BYTES = 8 * 2**20
"""The most that may come before the pixels: profiles, previews, text."""
HEADER_READS = 10_000
BYTES_PER_READ = 256
"""The least, on average, that the parts of a picture's data may have, apart from as many as a header's."""


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


@dataclass(frozen=True)
class PictureSize:
    """How many pixels a picture has in its file, and as a result. 0 where nobody knows."""

    file_pixels: int
    result_pixels: int

    @property
    def pixels(self) -> int:
        """How many it may have while it is worked on: it is decoded as it is in its file, and then resized."""
        return max(self.file_pixels, self.result_pixels)


def fitted(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """(width, height) with the proportions of ``size`` and this long side, in whole pixels.

    The gateway holds against its limits what the worker makes, so both must round alike.
    """
    longest = max(size)
    width, height = (max(1, round(side * long_side / longest)) for side in size)
    return width, height


class PictureFile(io.BytesIO):
    """A picture's bytes for a parser written in Python, which must not be kept busy with millions of tiny parts.

    JPEG and PNG are read piece by piece, and each piece costs some microseconds, even of four bytes: 32 megabytes of
    empty markers would take half a minute. Reading raises ImageTooComplexError when there are too many, or when a
    header goes on for too long; ``begin_pixels`` says that the header is over. (What reads a file as a whole, as the
    parsers of WebP and AVIF do, is bounded by its size.)
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._size = len(data)
        self._reads_left = HEADER_READS
        self._bytes_left = HEADER_BYTES

    def begin_pixels(self) -> None:
        self._reads_left = HEADER_READS + self._size // BYTES_PER_READ
        self._bytes_left = 2 * self._size  # a JPEG's first scan is read again

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and size >= 0:
            self._reads_left -= 1
            self._bytes_left -= len(data)
            if self._reads_left < 0 or self._bytes_left < 0:
                raise ImageTooComplexError(
                    "The picture has too many parts, or more than 8 MB of metadata: save it again without them."
                )
        return data


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
        swept = 0
        with store_errors():
            deadline = store_time(self._storage) - older_than
            for page in obstore.list(self._storage, prefix="images"):
                for found in page:
                    path = found["path"]
                    unused = found["last_modified"] < deadline and path.rsplit("/", 1)[-1] not in in_use
                    if unused and self._is_still_old(path, deadline):
                        obstore.delete(self._storage, path)
                        swept += 1
        return swept

    def _is_still_old(self, path: str, deadline: datetime) -> bool:
        """Asked just before it is deleted: a listing takes a while, and it may have been put again meanwhile."""
        try:
            return obstore.head(self._storage, path)["last_modified"] < deadline
        except FileNotFoundError:
            return False

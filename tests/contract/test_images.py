"""Pictures in the store: under their hash, young when put, swept when old."""

import hashlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from obstore.store import S3Store
from pydantic import ValidationError

from contract.errors import StoreUnavailableError
from contract.images import ImageRef, ImageStore, MediaType, fitted
from contract.storage import open_storage

HOUR = timedelta(hours=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> ImageStore:
    return ImageStore(open_storage(str(folder)))


def _grow_old(folder: Path, ref: ImageRef, seconds: float = 7200) -> None:
    then = time.time() - seconds
    os.utime(folder / ref.path, (then, then))


def test_a_picture_is_kept_under_the_hash_of_its_bytes(store: ImageStore, folder: Path) -> None:
    ref = store.put(b"picture")
    assert ref == ImageRef(sha256=hashlib.sha256(b"picture").hexdigest(), bytes=7)
    assert (folder / ref.path).read_bytes() == b"picture"
    assert store.open(ref) == b"picture"


def test_the_same_picture_is_kept_once(store: ImageStore, folder: Path) -> None:
    assert store.put(b"picture") == store.put(b"picture")
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 1


def test_a_reader_never_sees_half_a_picture(store: ImageStore) -> None:
    picture = bytes(range(256)) * 8000
    ref = store.put(picture)
    with ThreadPoolExecutor(4) as pool:
        puts = [pool.submit(store.put, picture) for _ in range(20)]
        opens = [pool.submit(store.open, ref) for _ in range(20)]
        assert {put.result() for put in puts} == {ref}
        assert {hashlib.sha256(found.result()).hexdigest() for found in opens} == {ref.sha256}


def test_a_picture_that_is_not_there_is_missing(store: ImageStore) -> None:
    with pytest.raises(FileNotFoundError):
        store.open(ImageRef(sha256="0" * 64, bytes=1))


@pytest.mark.parametrize("sha256", ["", "A" * 64, "0" * 63, "../" + "0" * 61, "0" * 64 + "\n"])
def test_a_reference_holds_a_hash_and_no_path(sha256: str) -> None:
    with pytest.raises(ValidationError):
        ImageRef(sha256=sha256, bytes=1)


def test_old_pictures_are_swept_and_young_ones_stay(store: ImageStore, folder: Path) -> None:
    old, young = store.put(b"old"), store.put(b"young")
    _grow_old(folder, old)
    assert store.sweep(HOUR, in_use=set()) == 1
    assert store.open(young) == b"young"
    with pytest.raises(FileNotFoundError):
        store.open(old)
    assert store.sweep(HOUR, in_use=set()) == 0


def test_a_picture_in_use_is_never_swept(store: ImageStore, folder: Path) -> None:
    used = store.put(b"used")
    _grow_old(folder, used)
    assert store.sweep(HOUR, in_use={used.sha256}) == 0
    assert store.open(used) == b"used"


def test_a_picture_that_is_put_again_is_young_again(store: ImageStore, folder: Path) -> None:
    ref = store.put(b"again")
    _grow_old(folder, ref)
    store.put(b"again")
    assert store.sweep(HOUR, in_use=set()) == 0


class Bucket(ThreadingHTTPServer):
    """As much of S3 as a sweep needs: what it holds, since when, and what it has been asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.dates = dict[str, datetime]()
        self.asked = list[str]()
        self.once_listed = dict[str, datetime]()
        """What is put right after the next listing."""

    def listing(self) -> bytes:
        entries = "".join(
            f"<Contents><Key>{name}</Key><LastModified>{date.isoformat()}</LastModified><Size>1</Size></Contents>"
            for name, date in self.dates.items()
            if name.startswith("images/")
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def do_GET(self) -> None:
        self.server.asked.append("list")
        listing = self.server.listing()
        self.server.dates.update(self.server.once_listed)
        self._answer(200, listing)

    def do_HEAD(self) -> None:
        self.server.asked.append(f"head {self._name}")
        self._answer(200 if self._name in self.server.dates else 404)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.dates[self._name] = datetime.now(UTC)
        self._answer(200)

    def do_POST(self) -> None:
        """Deletes; also one, as obstore does it."""
        names = re.findall("<Key>([^<]+)</Key>", self.rfile.read(int(self.headers["content-length"])).decode())
        for name in names:
            self.server.asked.append(f"delete {name}")
            del self.server.dates[name]
        deleted = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
        self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    @property
    def _name(self) -> str:
        return self.path.removeprefix("/bucket/")

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        if date := self.server.dates.get(self._name):
            self.send_header("Last-Modified", format_datetime(date, usegmt=True))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with Bucket() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_sweep_asks_for_nothing_but_the_listing_and_what_it_may_delete(bucket: Bucket) -> None:
    """A bucket counts, and is paid for, by requests."""
    names = [ImageRef(sha256=digit * 64, bytes=1).path for digit in "0123456789"]
    young, (old, used, again) = names[:-3], names[-3:]
    now = datetime.now(UTC)
    bucket.dates = dict.fromkeys(young, now) | dict.fromkeys([old, used, again], now - 2 * HOUR)
    bucket.once_listed = {again: now}
    store = S3Store(
        "bucket",
        endpoint=f"http://127.0.0.1:{bucket.server_port}",
        skip_signature=True,
        client_options={"allow_http": True},
    )
    assert ImageStore(store).sweep(HOUR, in_use={used.rsplit("/", 1)[-1]}) == 1
    assert bucket.asked == ["head clock", "list", f"head {old}", f"delete {old}", f"head {again}"]
    assert bucket.dates.keys() == {"clock", *young, used, again}


def test_a_sweep_of_nothing_sweeps_nothing(store: ImageStore) -> None:
    assert store.sweep(timedelta(0), in_use=set()) == 0


def test_a_sweep_leaves_the_styles_alone(store: ImageStore, folder: Path) -> None:
    style = folder / "styles" / "tiny" / "active"
    style.parent.mkdir(parents=True)
    style.write_text("1")
    os.utime(style, (0, 0))
    _grow_old(folder, store.put(b"old"))
    assert store.sweep(HOUR, in_use=set()) == 1
    assert style.exists()


def test_a_store_out_of_reach_says_so_and_names_no_path(store: ImageStore, folder: Path) -> None:
    ref = store.put(b"picture")
    shutil.rmtree(folder)
    folder.write_text("a file where the store was")
    for use in (
        lambda: store.put(b"other"),
        lambda: store.open(ref),
        lambda: store.sweep(timedelta(0), in_use=set()),
    ):
        with pytest.raises(StoreUnavailableError) as caught:
            use()
        assert "/" not in str(caught.value)
        assert caught.value.retry_after_seconds


def test_a_media_type_knows_its_suffix_and_whether_it_is_transparent() -> None:
    assert [media.suffix for media in MediaType] == ["jpg", "png", "webp", "avif"]
    assert [media for media in MediaType if not media.keeps_alpha] == [MediaType.JPEG]


@pytest.mark.parametrize(
    ("size", "long_side", "expected"),
    [
        ((200, 100), 64, (64, 32)),
        ((100, 200), 65, (32, 65)),
        ((328, 164), 777, (777, 388)),
        ((16, 16), 131, (131, 131)),
        ((40, 30), 40, (40, 30)),
        ((1000, 1), 16, (16, 1)),
    ],
)
def test_a_size_is_fitted_to_its_long_side(size: tuple[int, int], long_side: int, expected: tuple[int, int]) -> None:
    assert fitted(size, long_side) == expected
    assert fitted(size[::-1], long_side) == expected[::-1]

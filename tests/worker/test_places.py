"""Places for large pictures, on a real Redis."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from contract.errors import QueueUnavailableError
from contract.images import ImageRef, MediaType, PictureSize
from contract.jobbook import JobBook, JobKind, Pick
from contract.jobs import StyleShare, StylizeJob
from contract.settings import ContractSettings
from contract.styles import StyleRef
from tests.conftest import until
from worker.memory import DecodedPictures
from worker.places import Places

SECONDS = 10
MEMORY = DecodedPictures(100, whole_pixels=20)
SMALL, LARGE = 10, 50


@pytest.fixture
def book(redis_client: "Redis", settings: ContractSettings) -> JobBook:
    return JobBook(redis_client, settings)


def put(book: JobBook, pixels: int) -> str:
    job = StylizeJob(
        content=ImageRef(sha256="a" * 64, bytes=1),
        styles=(StyleShare(style=StyleRef(name="tiny", version=1)),),
        media_type=MediaType.PNG,
        quality=80,
        file_pixels=pixels,
        result_pixels=pixels,
    )
    return book.create(job).id


def picked(places: Places) -> str | None:
    """The next that is picked; it gives its place back at once."""
    with places.picked() as (pick, _):
        return pick.claim.job_id if pick.claim else None


@pytest.mark.parametrize(("threads", "together"), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_large_pictures_never_have_all_threads_of_several(book: JobBook, threads: int, together: int) -> None:
    places = Places(book, MEMORY, threads)
    jobs = [put(book, LARGE) for _ in range(together + 1)]
    small = put(book, SMALL)

    def fill(left: int) -> None:
        if left == 0:
            assert [picked(places) for _ in range(2)] == [small, None]
            return
        with places.picked() as (pick, largest):
            assert pick.claim is not None
            assert (pick.claim.job_id, largest) == (jobs[together - left], None)
            fill(left - 1)

    fill(together)
    assert picked(places) == jobs[-1]


def test_small_pictures_need_no_place_nor_does_nothing(book: JobBook) -> None:
    places = Places(book, MEMORY, 2)
    assert picked(places) is None
    put(book, SMALL)
    with places.picked() as (pick, _):
        assert pick.claim is not None
        large = put(book, LARGE)
        assert picked(places) == large


def test_a_place_is_given_back_when_the_book_cannot_be_read(book: JobBook, redis_client: "Redis") -> None:
    places, large = Places(book, MEMORY, 2), put(book, LARGE)
    redis_client.rename("atelier:queued:stylize", "atelier:elsewhere")
    redis_client.set("atelier:queued:stylize", "no set")
    for _ in range(2):
        with pytest.raises(QueueUnavailableError):
            picked(places)
    redis_client.rename("atelier:elsewhere", "atelier:queued:stylize")
    assert picked(places) == large


def test_whoever_comes_while_another_looks_for_a_job_finds_the_place_free_that_the_other_does_not_need(
    redis_client: "Redis", settings: ContractSettings
) -> None:
    """Else its ticket would be spent, and nobody who has a place would see to what it was for."""
    looked, go_on = threading.Event(), threading.Event()

    class Slow(JobBook):
        def pick(self, kind: JobKind = "stylize", *, alone: bool = True, largest: PictureSize | None = None) -> Pick:
            pick = super().pick(kind, alone=alone, largest=largest)
            looked.set()
            assert go_on.wait(SECONDS)
            return pick

    book = Slow(redis_client, settings)
    places = Places(book, MEMORY, 2)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(picked, places)
        assert looked.wait(SECONDS)
        large = put(book, LARGE)
        second = pool.submit(picked, places)
        until(second.running, SECONDS, "the second to come")
        go_on.set()
        assert (first.result(SECONDS), second.result(SECONDS)) == (None, large)

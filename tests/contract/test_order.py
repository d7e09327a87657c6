"""The order in which jobs are picked: classes of priority, clients that take turns, and a share for everybody."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
from redis import Redis

from contract.admission import Terms
from contract.errors import QueueFullError
from contract.images import PictureSize
from contract.jobbook import KINDS, Claim, JobBook, JobKind, room_for
from contract.jobs import BatchJob, JobState, Priority, StylizeJob, Timings
from contract.prelude import LOOK_PAST, SHARE
from contract.settings import ContractSettings
from tests.contract.conftest import RESULT, a_job, a_training, claimed, silence

INTERACTIVE, NORMAL, BATCH = Priority
URGENT = Terms(priority=INTERACTIVE)


@pytest.fixture
def book(redis_client: "Redis", settings: ContractSettings) -> JobBook:
    """A book with room for many."""
    return JobBook(redis_client, settings.model_copy(update={"queue_limit": 1000}))


def put(book: JobBook, count: int, client: str = "", priority: Priority = NORMAL) -> list[str]:
    return [book.admit(a_job(), Terms(client=client, priority=priority)).record.id for _ in range(count)]


def picked(book: JobBook, kind: JobKind = "stylize") -> Iterator[Claim]:
    """All that waits, in the order in which it is picked."""
    while claim := book.pick(kind).claim:
        yield claim


def clients(book: JobBook) -> str:
    """Whose jobs are picked, in order."""
    return "".join(claim.record.client for claim in picked(book))


def test_of_one_client_the_oldest_is_first(book: JobBook) -> None:
    jobs = put(book, 20)
    assert [claim.job_id for claim in picked(book)] == jobs


def test_clients_take_turns_however_much_they_have_sent(book: JobBook) -> None:
    for client, count in (("a", 100), ("b", 10), ("c", 1)):
        put(book, count, client)
    assert clients(book) == "abc" + 9 * "ab" + 90 * "a"


def test_a_client_that_comes_later_has_its_turn_after_those_that_wait(book: JobBook) -> None:
    put(book, 5, "a")
    put(book, 5, "b")
    first = [book.pick().claim for _ in range(3)]
    assert [claim.record.client for claim in first if claim] == ["a", "b", "a"]
    put(book, 2, "c")
    assert clients(book) == "bacbacbab"


def test_a_client_gains_nothing_by_sending_one_after_the_other(book: JobBook) -> None:
    put(book, 5, "a")
    order = ""
    for _ in range(6):
        put(book, 1, "b")
        claim = book.pick().claim
        assert claim is not None
        order += claim.record.client
    assert order == "ababab"


def test_what_is_more_urgent_is_first(book: JobBook) -> None:
    jobs = {priority: put(book, 2, priority=priority) for priority in (BATCH, NORMAL, INTERACTIVE)}
    assert [claim.job_id for claim in picked(book)] == jobs[INTERACTIVE] + jobs[NORMAL] + jobs[BATCH]


def test_every_class_is_given_its_share_however_many_more_urgent_jobs_wait(book: JobBook) -> None:
    for priority in Priority:
        put(book, 200, priority=priority)
    order = [book.pick().claim for _ in range(8 * SHARE + 1)]
    found = [claim.record.priority for claim in order if claim]
    assert Counter(found) == {INTERACTIVE: 6 * SHARE + 1, NORMAL: SHARE, BATCH: SHARE}
    for lower in (NORMAL, BATCH):
        turns = [number for number, priority in enumerate(found) if priority is lower]
        assert max(after - before for before, after in pairwise(turns)) <= SHARE
        assert turns[0] <= SHARE


def test_a_class_that_did_not_wait_is_owed_nothing(book: JobBook) -> None:
    put(book, 50, priority=INTERACTIVE)
    for _ in range(20):
        book.pick()
    put(book, 1, priority=BATCH)
    order = [book.pick().claim for _ in range(SHARE)]
    assert [claim.record.priority for claim in order if claim] == (SHARE - 1) * [INTERACTIVE] + [BATCH]


def test_turns_are_taken_in_each_class_by_itself(book: JobBook) -> None:
    put(book, 3, "a", INTERACTIVE)
    put(book, 3, "a", NORMAL)
    put(book, 1, "b", NORMAL)
    assert clients(book) == "aaa" + "abaa"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_picked_by_itself(book: JobBook, kind: JobKind) -> None:
    jobs: dict[JobKind, str] = {"stylize": book.create(a_job()).id, "train": book.create(a_training()).id}
    assert [claim.job_id for claim in picked(book, kind)] == [jobs[kind]]


def test_a_job_that_lost_its_worker_has_its_place_before_what_came_later(book: JobBook, redis_client: "Redis") -> None:
    first, *others = put(book, 3)
    silence(redis_client, claimed(book, first).job_id)
    assert book.reap() == [first]
    assert [claim.job_id for claim in picked(book)] == [first, *others]


def test_a_job_that_is_put_back_keeps_its_class_and_its_client(book: JobBook) -> None:
    (job_id,) = put(book, 1, "a", INTERACTIVE)
    put(book, 2, "b", NORMAL)
    book.release(claimed(book, job_id))
    assert book.waiting() == {INTERACTIVE: 1, NORMAL: 2, BATCH: 0}
    assert clients(book) == "abb"


def test_a_suspect_is_picked_alone_only_and_keeps_its_turn(book: JobBook) -> None:
    suspect, other = put(book, 2)
    book.release(claimed(book, suspect))
    pick = book.pick(alone=False)
    assert (pick.claim, pick.suspect) == (None, True)
    assert book.get(suspect).attempt == 1
    assert [claim.job_id for claim in picked(book)] == [suspect, other]


def test_one_is_told_of_a_suspect_and_the_others_go_on_with_what_else_waits(
    book: JobBook, redis_client: "Redis"
) -> None:
    (suspect,) = put(book, 1, "a", INTERACTIVE)
    book.release(claimed(book, suspect))
    put(book, 2, "b", INTERACTIVE)
    put(book, 1, "c", BATCH)
    assert book.pick(alone=False).suspect
    picks = [book.pick(alone=False) for _ in range(4)]
    assert [pick.claim.record.client if pick.claim else None for pick in picks] == ["b", "b", "c", None]
    assert not any(pick.suspect for pick in picks)
    redis_client.delete(f"atelier:suspect:{suspect}")  # what time does, when whoever was told has died
    assert book.pick(alone=False).suspect
    assert claimed(book, suspect).record.client == "a"


def test_a_job_that_was_broken_off_through_no_fault_of_its_own_is_no_suspect(book: JobBook) -> None:
    (job_id,) = put(book, 1)
    book.release(claimed(book, job_id), counts=False)
    claim = book.pick(alone=False).claim
    assert claim is not None
    assert claim.job_id == job_id


def test_of_many_who_pick_at_once_each_gets_another_job(book: JobBook) -> None:
    jobs = put(book, 60, "a") + put(book, 20, "b", BATCH)
    together = threading.Barrier(8)

    def pick(_: int) -> list[str]:
        together.wait(30)
        return [claim.job_id for _ in range(10) if (claim := book.pick().claim)]

    with ThreadPoolExecutor(8) as pool:
        found = [job_id for picks in pool.map(pick, range(8)) for job_id in picks]
    assert sorted(found) == sorted(jobs)


def test_a_worker_that_dies_right_after_its_pick_loses_no_job(book: JobBook, redis_client: "Redis") -> None:
    """To pick is to claim, in one step: there is no moment at which the job neither waits nor is somebody's."""
    (job_id,) = put(book, 1)
    assert book.pick().claim is not None
    record = book.get(job_id)
    assert (record.state, record.attempt, record.fence) == (JobState.RUNNING, 1, 1)
    silence(redis_client, job_id)
    assert book.reap() == [job_id]
    assert book.succeed(claimed(book, job_id), RESULT, Timings())


def test_jobs_that_are_gone_leave_no_line_behind(book: JobBook, redis_client: "Redis") -> None:
    canceled, evicted, forgotten = put(book, 3, "a")
    book.cancel(canceled)
    redis_client.delete(f"atelier:job:{evicted}")
    book.forget(forgotten)
    (last,) = put(book, 1, "b")
    assert [claim.job_id for claim in picked(book)] == [last]
    assert book.waiting() == {INTERACTIVE: 0, NORMAL: 0, BATCH: 0}
    assert list(redis_client.scan_iter("atelier:order:*:*")) == []


def test_a_job_of_before_there_were_lines_is_picked(book: JobBook, redis_client: "Redis") -> None:
    (job_id,) = put(book, 1)
    redis_client.hdel(f"atelier:job:{job_id}", "priority", "client", "place")
    redis_client.delete("atelier:order:stylize:normal", "atelier:order:stylize:normal:")
    put(book, 3, "new", INTERACTIVE)  # however much comes after it
    record = claimed(book, job_id).record
    assert (record.client, record.priority) == ("", NORMAL)
    assert clients(book) == 3 * "new"


def test_an_id_whose_record_is_gone_leads_to_no_job_of_another_kind(book: JobBook, redis_client: "Redis") -> None:
    put(book, 1)
    redis_client.zadd("atelier:queued:train", {"ghost": 1})
    assert book.pick("train").claim is None
    assert redis_client.zcard("atelier:queued:train") == 0
    assert book.pick().claim is not None


# --- Small pictures only ---

SMALL, LARGE, ENLARGED = PictureSize(10, 10), PictureSize(50, 10), PictureSize(10, 50)
MOST = PictureSize(10, 10)


def sized(size: PictureSize) -> StylizeJob:
    return a_job().model_copy(update={"file_pixels": size.file_pixels, "result_pixels": size.result_pixels})


def put_one(book: JobBook, size: PictureSize, client: str = "", priority: Priority = NORMAL) -> str:
    return book.admit(sized(size), Terms(client=client, priority=priority)).record.id


def small(book: JobBook) -> str | None:
    """The next that is picked, of small ones only."""
    claim = book.pick(alone=False, largest=MOST).claim
    return claim.job_id if claim else None


def test_large_ones_of_a_client_are_passed_over_and_had_by_the_next_who_picks_any_size(book: JobBook) -> None:
    first, larger, second, third = (put_one(book, size) for size in (LARGE, ENLARGED, SMALL, SMALL))
    assert [small(book) for _ in range(3)] == [second, third, None]
    assert [claim.job_id for claim in picked(book)] == [first, larger]
    assert [book.get(job_id).fence for job_id in (first, larger)] == [1, 1], "nobody has had them in between"


def test_who_waits_with_large_ones_only_is_passed_over_and_so_is_a_class(book: JobBook) -> None:
    large = put_one(book, LARGE, "a", INTERACTIVE)
    put_one(book, LARGE, "b", NORMAL)
    second = put_one(book, SMALL, "c", NORMAL)
    third = put_one(book, SMALL, "a", BATCH)
    assert [small(book) for _ in range(3)] == [second, third, None]
    claim = book.pick().claim
    assert claim is not None
    assert claim.job_id == large


def test_pictures_of_a_batch_are_small_or_large_each_by_itself(book: JobBook) -> None:
    requests = [sized(size) for size in (LARGE, SMALL)]
    batch = book.admit_batch(BatchJob(styles=requests[0].styles), requests, Terms(priority=BATCH)).record
    assert [small(book) for _ in range(2)] == [batch.children[1].id, None]
    assert [claim.job_id for claim in picked(book)] == [batch.children[0].id]


def test_a_job_whose_size_nobody_has_written_down_counts_as_small(book: JobBook, redis_client: "Redis") -> None:
    unknown, older = put(book, 2)
    assert redis_client.hdel(f"atelier:job:{older}", "file_pixels", "result_pixels") == 2
    put_one(book, LARGE)
    assert [small(book) for _ in range(3)] == [unknown, older, None]


def test_a_large_one_that_is_in_no_line_is_passed_over_too(book: JobBook, redis_client: "Redis") -> None:
    jobs = [put_one(book, LARGE), put_one(book, SMALL)]
    for job_id in jobs:
        redis_client.hdel(f"atelier:job:{job_id}", "priority", "client", "place")
    redis_client.delete("atelier:order:stylize:normal", "atelier:order:stylize:normal:")
    new = put_one(book, SMALL)
    assert small(book) == new
    assert [claim.job_id for claim in picked(book)] == jobs


def test_large_ones_of_several_clients_keep_their_turns_whatever_passes_them(book: JobBook) -> None:
    large = [put_one(book, LARGE, client) for client in "abc"]
    passing = [put_one(book, SMALL, client) for client in "dab"]
    assert [small(book) for _ in range(4)] == [passing[1], passing[2], passing[0], None]
    assert [claim.job_id for claim in picked(book)] == large


def test_clients_take_turns_with_small_ones_too(book: JobBook) -> None:
    put_one(book, LARGE, "a")
    jobs = {put_one(book, SMALL, client): client for client in "aaabbc"}
    order = [small(book) for _ in jobs]
    assert "".join(jobs[job_id] for job_id in order if job_id) == "abcaba"


def test_who_has_just_had_a_turn_with_any_size_has_the_next_small_one_later(book: JobBook) -> None:
    jobs = {put_one(book, SMALL, client): client for client in "aaabbb"}
    claim = book.pick().claim
    assert claim is not None
    assert claim.record.client == "a"
    order = [small(book) for _ in range(5)]
    assert "".join(jobs[job_id] for job_id in order if job_id) == "babab"


def test_a_large_one_has_its_turn_however_many_small_ones_its_client_sends(book: JobBook) -> None:
    """Else each of them would cost the client its turn, and who sends large ones only would come first for ever."""
    put_one(book, LARGE, "a")
    order = ""
    for _ in range(4):
        put_one(book, LARGE, "b")
        for _ in range(3):
            put_one(book, SMALL, "a")
            assert small(book)
        claim = book.pick().claim
        assert claim is not None
        order += claim.record.client
    assert order[:2] == "ab"


def test_every_class_is_given_its_share_of_small_ones_while_large_ones_wait_in_others(book: JobBook) -> None:
    for _ in range(4 * SHARE):
        put_one(book, SMALL, priority=INTERACTIVE)
    put_one(book, LARGE, priority=NORMAL)
    batch = [put_one(book, SMALL, priority=BATCH) for _ in range(3)]
    order = [small(book) for _ in range(3 * SHARE)]
    assert [order.index(job_id) for job_id in batch] == [SHARE - 1, 2 * SHARE - 1, 3 * SHARE - 1]


def test_large_ones_of_a_lower_class_have_their_share_however_many_small_ones_pass_them(book: JobBook) -> None:
    for _ in range(6 * SHARE):
        put_one(book, SMALL, priority=INTERACTIVE)
        put_one(book, SMALL, priority=BATCH)
    put_one(book, LARGE, "b", BATCH)
    order = []
    for _ in range(2 * SHARE):
        assert small(book)
        claim = book.pick().claim
        assert claim is not None
        order.append(claim.record.client)
    assert "b" in order


def test_so_many_large_ones_of_a_client_are_passed_over_and_no_more(book: JobBook) -> None:
    for _ in range(LOOK_PAST):
        put_one(book, LARGE, "a")
    first = put_one(book, SMALL, "a")
    put_one(book, LARGE, "b")
    assert small(book) == first
    put_one(book, LARGE, "a")
    second = put_one(book, SMALL, "a")
    assert small(book) is None
    claimed(book, second)


def test_a_suspect_is_told_of_to_who_picks_small_ones_if_it_is_small(book: JobBook) -> None:
    large, suspect = put_one(book, LARGE), put_one(book, SMALL)
    for job_id in (large, suspect):
        book.release(claimed(book, job_id))
    assert book.pick(alone=False, largest=MOST).suspect
    assert small(book) is None
    claim = book.pick(alone=True, largest=MOST).claim
    assert claim is not None
    assert claim.job_id == suspect


def test_a_client_that_has_gone_leaves_no_turn_behind(book: JobBook, redis_client: "Redis") -> None:
    for _ in range(2):
        put_one(book, SMALL, "a")
    for _ in range(2):
        assert small(book)
    assert list(redis_client.scan_iter("atelier:order:*:*:*")) == []


# --- A job that is asked for more urgently ---


def test_an_urgent_request_raises_the_same_job_that_waits(book: JobBook) -> None:
    put(book, 2, "a", INTERACTIVE)
    put(book, 3, "b", BATCH)
    found = Terms(may_find=True, may_be_found=True, client="b", priority=BATCH)
    job_id = book.admit(a_job("e" * 64), found).record.id
    admission = book.admit(a_job("e" * 64), replace(found, priority=INTERACTIVE))
    assert (admission.how, admission.record.id) == ("shared", job_id)
    assert (admission.record.priority, admission.record.client) == (INTERACTIVE, "b")
    assert book.waiting() == {INTERACTIVE: 3, NORMAL: 0, BATCH: 3}
    assert [claim.job_id for claim in picked(book)].index(job_id) == 1, "its client has its turn there"


def test_a_request_that_is_less_urgent_lowers_nothing(book: JobBook) -> None:
    terms = Terms(may_find=True, may_be_found=True, priority=INTERACTIVE)
    book.admit(a_job(), terms)
    shared = book.admit(a_job(), Terms(may_find=True, may_be_found=True, priority=BATCH))
    assert (shared.how, shared.record.priority) == ("shared", INTERACTIVE)
    assert book.waiting() == {INTERACTIVE: 1, NORMAL: 0, BATCH: 0}


def test_a_job_that_runs_is_raised_no_more(book: JobBook) -> None:
    job_id = book.admit(a_job(), Terms(may_find=True, may_be_found=True, priority=BATCH)).record.id
    claimed(book, job_id)
    shared = book.admit(a_job(), Terms(may_find=True, may_be_found=True, priority=INTERACTIVE))
    assert (shared.record.id, shared.record.priority) == (job_id, BATCH)
    assert sum(book.waiting().values()) == 0


# --- The bound of the queue ---


def test_a_flood_of_lower_classes_leaves_room_for_what_is_more_urgent(
    redis_client: "Redis", settings: ContractSettings
) -> None:
    book = JobBook(redis_client, settings.model_copy(update={"queue_limit": 16}))
    for priority, room in ((BATCH, 12), (NORMAL, 14), (INTERACTIVE, 16)):
        assert room_for(priority, 16) == room
        put(book, room - book.depth().queued, priority=priority)
        with pytest.raises(QueueFullError, match=str(room)):
            put(book, 1, priority=priority)


def test_no_client_fills_the_whole_queue_where_clients_are_told_apart(
    redis_client: "Redis", settings: ContractSettings
) -> None:
    book = JobBook(redis_client, settings.model_copy(update={"queue_limit": 16}))
    put(book, 6, "a", BATCH)
    put(book, 6, "a", INTERACTIVE)  # three quarters
    with pytest.raises(QueueFullError):
        put(book, 1, "a", INTERACTIVE)
    put(book, 4, "b", INTERACTIVE)
    with pytest.raises(QueueFullError):
        put(book, 1, "b", INTERACTIVE)


def test_the_smallest_queue_has_room_for_one_job_of_each_class() -> None:
    assert [room_for(priority, 1) for priority in Priority] == [1, 1, 1]

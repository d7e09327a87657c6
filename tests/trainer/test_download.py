"""Downloads: from a server that breaks off, forgets, lies and hangs, by a process that is killed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.errors import TrainingDataError
from tests.conftest import free_port, until
from tests.trainer.file_server import IMPATIENT, Served, serving, stay_at_home
from trainer.download import Patience, Source, download

BODY = os.urandom(300_000)
OTHER = os.urandom(300_000)


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    stay_at_home(monkeypatch, tmp_path_factory.mktemp("home"))


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(weights_pth=BODY) as served:
        yield served


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "weights.pth"


def fetch(
    source: Source,
    target: Path,
    stopped: Callable[[], bool] = lambda: False,
    patience: Patience = IMPATIENT,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> bool:
    return download(source, target, progress=progress, stopped=stopped, patience=patience)


def part_of(target: Path) -> Path:
    return target.with_name("weights.pth.part")


def leave_part(target: Path, body: bytes, version: str = '"one"') -> None:
    """What a download leaves that was interrupted."""
    target.parent.mkdir(exist_ok=True)
    part_of(target).write_bytes(body)
    target.with_name("weights.pth.part.version").write_text(version)


def refusal(source: Source, target: Path, patience: Patience = IMPATIENT) -> str:
    """The message, which holds nothing that a client may not read."""
    with pytest.raises(TrainingDataError) as caught:
        fetch(source, target, patience=patience)
    message = str(caught.value)
    assert not target.exists()
    assert str(target.parent) not in message
    assert "127.0.0.1" not in message
    return message


def test_a_file_arrives_whole_and_nothing_is_left_beside_it(served: Served, target: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert fetch(served.source("weights.pth"), target, progress=lambda done, of: seen.append((done, of)))
    assert target.read_bytes() == BODY
    assert list(target.parent.iterdir()) == [target]
    assert seen == sorted(seen)
    assert seen[-1] == (len(BODY), len(BODY))
    assert served.requests[0]["Accept-Encoding"] == "identity"


def test_it_follows_a_redirect(served: Served, target: Path) -> None:
    served.statuses, served.location = [302], "/weights.pth"
    source = served.source("weights.pth")
    assert fetch(Source(f"{served.address}/elsewhere/weights.pth", source.bytes, source.sha256), target)
    assert target.read_bytes() == BODY


def test_a_broken_connection_is_gone_on_with(served: Served, target: Path) -> None:
    served.break_after = [100_000, 50_000]
    assert fetch(served.source("weights.pth"), target)
    assert target.read_bytes() == BODY
    assert served.asked_for() == ["all", "bytes=100000-", "bytes=150000-"]
    assert served.requests[1]["If-Range"] == '"one"'


def test_a_file_that_grows_may_break_as_often_as_it_likes(served: Served, target: Path) -> None:
    served.break_after = [20_000] * 12
    assert fetch(served.source("weights.pth"), target)
    assert len(served.requests) == 13 > IMPATIENT.attempts


@pytest.mark.parametrize("modified", ["", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_weak_version_is_not_asked_for(served: Served, target: Path, modified: str) -> None:
    served.etag, served.modified, served.knows_if_range = 'W/"one"', modified, False
    served.break_after = [100_000]
    assert fetch(served.source("weights.pth"), target)
    assert served.requests[1].get("If-Range", "") == modified
    assert served.asked_for() == ["all", "bytes=100000-"]


def test_a_part_of_an_earlier_process_is_gone_on_with(served: Served, target: Path) -> None:
    leave_part(target, BODY[:200_000])
    assert fetch(served.source("weights.pth"), target)
    assert target.read_bytes() == BODY
    assert served.asked_for() == ["bytes=200000-"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("version", ["", "\0\0\0", "\x80\xff"])
def test_a_part_without_a_readable_version_is_gone_on_with(served: Served, target: Path, version: str) -> None:
    leave_part(target, BODY[:200_000])
    target.with_name("weights.pth.part.version").write_bytes(version.encode("latin-1"))
    assert fetch(served.source("weights.pth"), target)
    assert served.asked_for() == ["bytes=200000-"]
    assert "If-Range" not in served.requests[0]


def test_a_part_that_is_complete_is_not_asked_for_again(served: Served, target: Path) -> None:
    leave_part(target, BODY)
    assert fetch(served.source("weights.pth"), target)
    assert target.read_bytes() == BODY
    assert served.requests == []


def test_a_part_that_is_too_long_is_begun_again(served: Served, target: Path) -> None:
    leave_part(target, BODY + b"more")
    assert fetch(served.source("weights.pth"), target)
    assert served.asked_for() == ["all"]


def test_a_server_that_does_not_know_ranges_sends_all_of_it_again(served: Served, target: Path) -> None:
    served.knows_range = False
    served.break_after = [100_000]
    assert fetch(served.source("weights.pth"), target)
    assert target.read_bytes() == BODY
    assert served.asked_for() == ["all", "bytes=100000-"]


@pytest.mark.parametrize("knows_if_range", [True, False])
def test_the_rest_of_another_version_is_not_put_behind_ours(served: Served, target: Path, knows_if_range: bool) -> None:
    leave_part(target, OTHER[:200_000], version='"zero"')
    served.knows_if_range = knows_if_range
    assert fetch(served.source("weights.pth"), target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("answer", ["bytes 199999-299998/300000", "bytes 200000-400000/400001", "rubbish", ""])
def test_a_range_that_was_not_asked_for_is_not_put_behind_ours(served: Served, target: Path, answer: str) -> None:
    leave_part(target, BODY[:200_000])
    served.ranges = [answer]
    assert fetch(served.source("weights.pth"), target)
    assert target.read_bytes() == BODY
    assert served.asked_for() == ["bytes=200000-", "all"]


def test_a_file_that_became_shorter_than_what_we_have_is_begun_again(served: Served, target: Path) -> None:
    leave_part(target, BODY[:200_000], version="")
    served.files["weights.pth"] = OTHER[:150_000]
    source = served.source("weights.pth", bytes=len(BODY))
    assert "has 150,000 bytes instead of 300,000" in refusal(source, target)
    assert served.asked_for() == ["bytes=200000-", "all"]


def test_a_server_that_never_gets_further_is_given_up(served: Served, target: Path) -> None:
    served.knows_range = False
    served.break_after = [100_000] * 20
    message = refusal(served.source("weights.pth"), target)
    assert "weights.pth cannot be fetched: 3 attempts in a row brought nothing new" in message
    assert len(served.requests) == 1 + IMPATIENT.attempts
    assert part_of(target).read_bytes() == BODY[:100_000], "which the next call goes on with"


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_server_that_is_busy_is_asked_again(served: Served, target: Path, status: int) -> None:
    served.statuses = [status, status]
    assert fetch(served.source("weights.pth"), target)
    served.statuses = [status] * 3
    target.unlink()
    assert f"the server answers {status}" in refusal(served.source("weights.pth"), target)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(served: Served, target: Path, status: int) -> None:
    served.statuses = [status]
    assert f"weights.pth cannot be fetched: the server answers {status}" in refusal(
        served.source("weights.pth"), target
    )
    assert len(served.requests) == 1


def test_a_refusal_leaves_what_has_come(served: Served, target: Path) -> None:
    leave_part(target, BODY[:200_000])
    served.statuses = [403]
    refusal(served.source("weights.pth"), target)
    assert fetch(served.source("weights.pth"), target)
    assert served.asked_for() == ["bytes=200000-"] * 2


def test_an_answer_of_another_length_is_refused_at_once(served: Served, target: Path) -> None:
    served.surplus = 5
    assert "has 300,005 bytes instead of 300,000" in refusal(served.source("weights.pth"), target)
    assert len(served.requests) == 1


def test_a_server_that_promises_more_than_it_sends_is_given_up(served: Served, target: Path) -> None:
    served.surplus = 100
    message = refusal(served.source("weights.pth", bytes=len(BODY) + 100), target)
    assert "attempts in a row" in message


def test_never_more_is_written_than_the_file_has(served: Served, target: Path) -> None:
    served.names_length = False
    source = served.source("weights.pth", bytes=1000)
    assert "has more bytes instead of 1,000" in refusal(source, target)
    assert part_of(target).stat().st_size <= 1000


def test_a_server_that_names_no_length_is_good_enough(served: Served, target: Path) -> None:
    served.names_length = False
    served.break_after = [100_000]
    assert fetch(served.source("weights.pth"), target)
    assert target.read_bytes() == BODY


def test_a_wrong_hash_deletes_the_file(served: Served, target: Path) -> None:
    source = served.source("weights.pth", sha256="0" * 64)
    message = refusal(source, target)
    assert "weights.pth did not arrive as it should be and was deleted" in message
    assert served.source("weights.pth").sha256 in message
    assert not part_of(target).exists()


def test_after_a_wrong_hash_a_new_start_succeeds(served: Served, target: Path) -> None:
    leave_part(target, OTHER[:200_000])
    refusal(served.source("weights.pth"), target)
    assert fetch(served.source("weights.pth"), target)
    assert target.read_bytes() == BODY


def test_a_connection_that_hangs_is_broken_and_gone_on_with(served: Served, target: Path) -> None:
    served.hang_after = [100_000, 0]
    assert fetch(served.source("weights.pth"), target, patience=Patience(backoff_seconds=0, read_seconds=0.3))
    assert target.read_bytes() == BODY
    assert len(served.requests) > 2


def test_without_anybody_who_listens_it_fails_at_once(target: Path) -> None:
    source = Source(f"http://127.0.0.1:{free_port()}/weights.pth", 10, "0" * 64)
    message = refusal(source, target, Patience(attempts=100, backoff_seconds=1000))
    assert "weights.pth cannot be fetched: nothing answers at its address" in message
    assert "refused" in message


def test_without_names_it_fails_at_once(target: Path) -> None:
    source = Source("http://no-such-host.invalid/weights.pth", 10, "0" * 64)
    assert "nothing answers at its address" in refusal(source, target, Patience(backoff_seconds=1000))


def test_a_server_that_goes_away_meanwhile_is_waited_for(target: Path) -> None:
    with serving(weights_pth=BODY) as served:
        served.break_after = [100_000]
        source = served.source("weights.pth")
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))  # and does not listen: nobody answers there
            served.statuses = [200, 302, 302, 200]
            served.location = f"http://127.0.0.1:{silent.getsockname()[1]}/"
            assert fetch(source, target)
    assert target.read_bytes() == BODY
    assert len(served.requests) == 4


@pytest.mark.parametrize(
    "url", ["mirror/weights.pth", "ftp://mirror/weights.pth", "http://a:b/w.pth", f"http://{'a' * 70}/w.pth"]
)
def test_an_address_that_is_none_is_refused(target: Path, url: str) -> None:
    assert "its address is not one" in refusal(Source(url, 10, "0" * 64), target)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "socks5://proxy"), ("HTTP_PROXY", "what://proxy"), ("SSL_CERT_FILE", "/nowhere/certificates.pem")],
)
def test_a_proxy_or_certificates_that_cannot_be_used_are_named(
    served: Served, target: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv(variable, value)
    assert variable in refusal(served.source("weights.pth"), target)


def test_nothing_is_asked_for_when_it_is_stopped_already(served: Served, target: Path) -> None:
    assert not fetch(served.source("weights.pth"), target, lambda: True)
    assert served.requests == []


def test_it_stops_when_asked_and_goes_on_later(served: Served, target: Path) -> None:
    so_far: list[int] = []
    source = served.source("weights.pth")
    stopped = fetch(source, target, lambda: sum(so_far) > 0, progress=lambda done, _: so_far.append(done))
    assert not stopped
    assert not target.exists()
    assert part_of(target).read_bytes() == BODY[: so_far[-1]]
    assert fetch(source, target)
    assert served.asked_for() == ["all", f"bytes={so_far[-1]}-"]
    assert target.read_bytes() == BODY


def test_it_stops_in_the_middle_of_a_wait(served: Served, target: Path) -> None:
    served.statuses = [503] * 5
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 2

    assert not fetch(served.source("weights.pth"), target, stopped, Patience(backoff_seconds=1000))
    assert len(served.requests) == 1


def test_the_wait_doubles() -> None:
    assert [Patience(backoff_seconds=3).wait_seconds(vain) for vain in range(5)] == [3, 3, 6, 12, 24]


def test_a_disk_that_is_too_small_is_seen_before_anything_comes(served: Served, target: Path) -> None:
    message = refusal(served.source("weights.pth", bytes=10**16), target)
    assert "too full for weights.pth: 9,536,743,164 MB more are needed" in message
    assert served.requests == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_disk_that_becomes_full_is_named(served: Served, target: Path) -> None:
    target.parent.mkdir()
    part_of(target).symlink_to("/dev/full")
    assert refusal(served.source("weights.pth"), target) == "weights.pth cannot be written: the disk is full."


def test_a_folder_that_is_none_is_named(served: Served, target: Path) -> None:
    target.parent.write_text("a file")
    assert refusal(served.source("weights.pth"), target).startswith("weights.pth cannot be written: ")


PROGRAM = """
import sys
from pathlib import Path
from trainer.download import Source, download
source = Source(sys.argv[1], int(sys.argv[2]), sys.argv[3])
download(source, Path(sys.argv[4]), progress=lambda *_: None, stopped=lambda: False)
"""


def test_a_download_that_is_killed_is_gone_on_with(served: Served, target: Path) -> None:
    served.hang_after = [200_000]
    source = served.source("weights.pth")
    arguments = [source.url, str(source.bytes), source.sha256, str(target)]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments])
    part = part_of(target)
    until(lambda: part.exists() and part.stat().st_size > 100_000, what="the first half")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    begun = part.stat().st_size
    assert fetch(source, target)
    assert served.asked_for() == ["all", f"bytes={begun}-"]
    assert target.read_bytes() == BODY

"""What training needs: found where it is, fetched when it is missing, and otherwise a sentence that says what to do."""

import fcntl
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from torchvision.models import VGG16_Weights, VGG19_Weights

from contract.errors import TrainingDataError
from contract.settings import load
from tests.conftest import free_port, until
from tests.trainer.file_server import IMPATIENT, Served, serving, stay_at_home
from trainer.fetch import (
    PUBLISHED,
    Network,
    Sources,
    descriptor_file,
    fetch_missing,
    missing,
    photographs_folder,
)
from trainer.settings import TrainerSettings

WEIGHTS = os.urandom(200_000)
OTHER_WEIGHTS = os.urandom(100_000)
PHOTOGRAPHS = {f"{number}.jpg": b"\xff\xd8\xff" + os.urandom(40_000) for number in range(5)}


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, photograph in PHOTOGRAPHS.items():
            packed.writestr(f"val2017/{name}", photograph)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    stay_at_home(monkeypatch, tmp_path_factory.mktemp("home"))


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(vgg19_pth=WEIGHTS, vgg16_pth=OTHER_WEIGHTS, val2017_zip=zipped()) as served:
        yield served


@pytest.fixture
def sources(served: Served) -> Sources:
    return Sources(served.source("vgg19.pth"), served.source("vgg16.pth"), served.source("val2017.zip"))


@pytest.fixture
def settings(tmp_path: Path) -> TrainerSettings:
    return TrainerSettings(data=tmp_path / "data")


def never_stopped() -> bool:
    return False


def fetch(settings: TrainerSettings, sources: Sources, networks: tuple[Network, ...] = ("vgg19",)) -> bool:
    return fetch_missing(
        settings, lambda *_: None, never_stopped, networks=networks, sources=sources, patience=IMPATIENT
    )


def refusal(settings: TrainerSettings, sources: Sources) -> str:
    """The message, which holds nothing that a client may not read."""
    with pytest.raises(TrainingDataError) as caught:
        fetch(settings, sources)
    assert str(settings.data) not in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def requested(served: Served) -> list[str]:
    return [headers["Path"] for headers in served.requests]


COMPLETE = [*(f"content/coco_val2017/{name}" for name in PHOTOGRAPHS), "descriptor/vgg19.pth", "fetch.lock"]


def test_the_weights_are_those_of_torchvision() -> None:
    for source, weights in ((PUBLISHED.vgg19, VGG19_Weights), (PUBLISHED.vgg16, VGG16_Weights)):
        assert source.url == weights.IMAGENET1K_V1.url
        assert source.sha256[:8] == re.findall(r"-([0-9a-f]{8})\.pth$", source.url)[0]
        assert source.bytes / 2**20 == pytest.approx(weights.IMAGENET1K_V1.meta["_file_size"], abs=0.3)
    assert all(re.fullmatch("[0-9a-f]{64}", source.sha256) for source in vars(PUBLISHED).values())


def test_everything_is_fetched_into_the_data_folder(settings: TrainerSettings, sources: Sources) -> None:
    assert [thing.source.name for thing in missing(settings, sources=sources)] == ["vgg19.pth", "val2017.zip"]
    assert fetch(settings, sources)
    assert names(settings.data) == COMPLETE
    assert missing(settings, sources=sources) == []
    file, folder = descriptor_file(settings, sources=sources), photographs_folder(settings)
    assert file is not None
    assert file.read_bytes() == WEIGHTS
    assert folder is not None
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == PHOTOGRAPHS


def test_what_is_there_is_not_fetched_again(settings: TrainerSettings, sources: Sources, served: Served) -> None:
    assert fetch(settings, sources)
    assert fetch(settings, sources)
    assert requested(served) == ["/vgg19.pth", "/val2017.zip"]
    (settings.data / "descriptor" / "vgg19.pth").unlink()
    assert fetch(settings, sources)
    assert requested(served)[2:] == ["/vgg19.pth"]


def test_several_networks_can_be_wanted(settings: TrainerSettings, sources: Sources) -> None:
    assert fetch(settings, sources, networks=("vgg19", "vgg16"))
    assert missing(settings, ["vgg19", "vgg16"], sources) == []
    file = descriptor_file(settings, "vgg16", sources)
    assert file is not None
    assert file.read_bytes() == OTHER_WEIGHTS


def test_what_the_variables_name_comes_before_all(
    tmp_path: Path, sources: Sources, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.pth").write_bytes(b"weights")
    (tmp_path / "photographs").mkdir()
    monkeypatch.setenv("ATELIER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ATELIER_VGG", str(tmp_path / "mine.pth"))
    monkeypatch.setenv("ATELIER_CONTENT", str(tmp_path / "photographs"))
    settings = load(TrainerSettings)
    assert fetch(settings, sources)
    assert served.requests == []
    assert descriptor_file(settings, sources=sources) == tmp_path / "mine.pth"
    assert photographs_folder(settings) == tmp_path / "photographs"
    assert descriptor_file(settings, "vgg16", sources) is None, "ATELIER_VGG names weights of VGG-19"


@pytest.mark.parametrize("name", ["vgg", "content"])
def test_a_variable_that_names_nothing_is_not_passed_over(
    settings: TrainerSettings, sources: Sources, served: Served, name: str
) -> None:
    wrong = settings.model_copy(update={name: settings.data / "nowhere"})
    assert f"ATELIER_{name.upper()} names a f" in refusal(wrong, sources)
    assert served.requests == []


def test_a_copy_of_the_weights_that_was_broken_off_is_fetched_again(
    settings: TrainerSettings, sources: Sources
) -> None:
    file = settings.data / "descriptor" / "vgg19.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(WEIGHTS[:1000])
    assert descriptor_file(settings, sources=sources) is None
    assert fetch(settings, sources)
    assert file.read_bytes() == WEIGHTS


def test_what_was_put_there_by_hand_needs_no_network(
    settings: TrainerSettings, sources: Sources, served: Served
) -> None:
    for name, body in (("descriptor/vgg19.pth", WEIGHTS), ("content/val2017.zip", served.files["val2017.zip"])):
        (settings.data / name).parent.mkdir(parents=True)
        (settings.data / name).write_bytes(body)
    assert fetch(settings.model_copy(update={"fetch": "never"}), sources)
    assert names(settings.data) == COMPLETE
    assert served.requests == []


def test_photographs_of_ones_own_may_lie_in_the_data_folder(settings: TrainerSettings, sources: Sources) -> None:
    (settings.data / "content" / "coco_val2017" / "holidays").mkdir(parents=True)
    assert photographs_folder(settings) is None
    (settings.data / "content" / "coco_val2017" / "holidays" / "1.png").write_bytes(b"photograph")
    assert photographs_folder(settings) == settings.data / "content" / "coco_val2017"


def test_progress_comes_as_lines_and_as_a_fraction_that_grows(settings: TrainerSettings, sources: Sources) -> None:
    seen: list[tuple[str, float]] = []
    report = lambda line, fraction: seen.append((line, fraction))  # noqa: E731
    assert fetch_missing(settings, report, never_stopped, sources=sources, patience=IMPATIENT)
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[0] > 0
    assert fractions[-1] == 1
    lines = [line for line, _ in seen]
    assert lines[-1] == "val2017.zip: 5 photographs unpacked"
    assert re.fullmatch(r"vgg19\.pth: \d of 0 MB", lines[0])
    assert len(lines) < 8, "not one for every chunk"


def test_never_means_never(settings: TrainerSettings, served: Served) -> None:
    offline = settings.model_copy(update={"fetch": "never"})
    assert refusal(offline, PUBLISHED) == (
        "ATELIER_FETCH=never forbids to fetch what training needs. Run `atelier content fetch` where there is a "
        "network, or put into the data folder (ATELIER_DATA) https://download.pytorch.org/models/vgg19-dcbb9e9d.pth "
        "(574,673,361 bytes) as descriptor/vgg19-dcbb9e9d.pth, or name a file of these weights with ATELIER_VGG; and "
        "http://images.cocodataset.org/zips/val2017.zip (815,585,330 bytes) as content/val2017.zip, or photographs of "
        "your own into content/coco_val2017/, or name a folder of photographs with ATELIER_CONTENT."
    )
    assert not settings.data.exists()


def test_without_a_network_it_says_what_to_do_instead(settings: TrainerSettings, sources: Sources) -> None:
    nowhere = settings.model_copy(update={"mirror": f"http://user:secret@127.0.0.1:{free_port()}"})
    message = refusal(nowhere, sources)
    assert message.startswith("vgg19.pth cannot be fetched: nothing answers at its address (")
    assert "ATELIER_MIRROR was asked. Run `atelier content fetch`" in message
    for word in ("descriptor/vgg19.pth", "ATELIER_VGG", "content/val2017.zip", "ATELIER_CONTENT"):
        assert word in message
    assert "secret" not in message


def test_only_what_is_still_missing_is_asked_of_people(
    settings: TrainerSettings, sources: Sources, served: Served
) -> None:
    del served.files["val2017.zip"]
    message = refusal(settings, sources)
    assert message.startswith("val2017.zip cannot be fetched: the server answers 404 Not Found. Run ")
    assert "ATELIER_CONTENT" in message
    assert "ATELIER_VGG" not in message
    assert descriptor_file(settings, sources=sources) is not None


def test_a_mirror_holds_everything_under_its_name(settings: TrainerSettings, served: Served) -> None:
    sources = Sources(*(served.source(name) for name in ("vgg19.pth", "vgg16.pth", "val2017.zip")))
    with serving(**{f"mirrored/{name}": body for name, body in served.files.items()}) as mirror:
        assert fetch(settings.model_copy(update={"mirror": f"{mirror.address}/mirrored/"}), sources)
        assert requested(mirror) == ["/mirrored/vgg19.pth", "/mirrored/val2017.zip"]
    assert served.requests == []


def test_the_environment_says_whether_and_where_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(TrainerSettings).fetch == "auto"
    monkeypatch.setenv("ATELIER_FETCH", "never")
    monkeypatch.setenv("ATELIER_MIRROR", "http://mirror/")
    settings = load(TrainerSettings)
    assert settings.fetch == "never"
    assert PUBLISHED.vgg19.on(settings.mirror).url == "http://mirror/vgg19-dcbb9e9d.pth"


def test_an_archive_that_cannot_be_used_is_fetched_anew_next_time(
    settings: TrainerSettings, sources: Sources, served: Served
) -> None:
    archive = settings.data / "content" / "val2017.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(bytes(len(served.files["val2017.zip"])))
    assert "val2017.zip cannot be used and was deleted" in refusal(settings, sources)
    assert fetch(settings, sources)
    assert names(settings.data) == COMPLETE


def test_it_stops_at_every_point_and_goes_on_to_the_same_end(
    settings: TrainerSettings, sources: Sources, served: Served
) -> None:
    stops = 0
    answers = iter([True])  # to "shall I stop?": first at once, then at the second time, then at the third …
    while not fetch_missing(settings, lambda *_: None, lambda: next(answers), sources=sources, patience=IMPATIENT):  # noqa: B023
        stops += 1
        answers = iter([*[False] * stops, True])
    assert stops > 5
    assert names(settings.data) == COMPLETE


def test_a_folder_that_cannot_be_written_is_named(settings: TrainerSettings, sources: Sources) -> None:
    settings.data.write_text("a file")
    assert refusal(settings, sources).startswith("The data folder cannot be written: ")


def test_two_that_need_the_same_fetch_it_once(settings: TrainerSettings, sources: Sources, served: Served) -> None:
    served.hang_after = [100]
    lines: list[str] = []
    ends: list[bool] = []
    report = lambda line, _: lines.append(line)  # noqa: E731

    def run() -> None:
        ends.append(fetch_missing(settings, report, never_stopped, sources=sources, patience=IMPATIENT))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: "another process fetches what training needs" in lines, what="the one that waits")
    served.released.set()
    for thread in threads:
        thread.join()
    assert ends == [True, True]
    assert requested(served) == ["/vgg19.pth", "/vgg19.pth", "/val2017.zip"], (
        "the first was broken off and gone on with"
    )
    assert names(settings.data) == COMPLETE


def test_who_waits_for_another_process_can_be_stopped(settings: TrainerSettings, sources: Sources) -> None:
    settings.data.mkdir()
    lines: list[str] = []
    with (settings.data / "fetch.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        report = lambda line, _: lines.append(line)  # noqa: E731
        assert not fetch_missing(settings, report, lambda: len(lines) > 0, sources=sources)
    assert lines == ["another process fetches what training needs"]


PROGRAM = """
import json, sys
from pathlib import Path
from trainer.download import Source
from trainer.fetch import Sources, fetch_missing
from trainer.settings import TrainerSettings
sources = Sources(*(Source(**json.loads(fields)) for fields in sys.argv[2:]))
fetch_missing(TrainerSettings(data=Path(sys.argv[1])), lambda line, _: None, lambda: False, sources=sources)
"""


def test_a_process_that_is_killed_is_gone_on_with_by_the_next(
    settings: TrainerSettings, sources: Sources, served: Served
) -> None:
    served.hang_after = [None, 150_000]
    fields = [json.dumps(asdict(source)) for source in vars(sources).values()]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(settings.data), *fields])
    part = settings.data / "content" / "val2017.zip.part"
    until(lambda: part.exists() and part.stat().st_size > 100_000, what="half of the photographs")
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = part.stat().st_size
    assert fetch(settings, sources)
    assert served.asked_for() == ["all", "all", f"bytes={begun}-"]
    assert names(settings.data) == COMPLETE

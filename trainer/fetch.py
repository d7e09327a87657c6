"""Descriptor weights and photographs, which training needs and a fresh machine lacks: where they are, or come from.

The weights are torchvision's, the photographs those of COCO val2017. Both are kept in the data folder; files that
somebody put there by hand count as well, and ATELIER_VGG and ATELIER_CONTENT come before all.
"""

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contract.errors import TrainingDataError
from trainer.download import Advance, Patience, Source, Stopped, download, megabytes, pause, reason
from trainer.settings import TrainerSettings
from trainer.unpack import unpack

Network = Literal["vgg19", "vgg16"]
Report = Callable[[str, float], None]
"""Is told a line for people, and how much of everything is done: 0..1."""

REPORT_SECONDS = 0.5
"""Between two reports."""
UNPACKING = 0.1
"""How long unpacking takes, as a share of the time that the download took."""


@dataclass(frozen=True)
class Sources:
    """Where everything comes from."""

    vgg19: Source
    vgg16: Source
    photographs: Source

    def descriptor(self, network: Network) -> Source:
        return {"vgg19": self.vgg19, "vgg16": self.vgg16}[network]


PUBLISHED = Sources(
    # torchvision's IMAGENET1K_V1: the names begin with the first eight digits of the SHA-256.
    vgg19=Source(
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        574_673_361,
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    ),
    vgg16=Source(
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        553_433_881,
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    ),
    # COCO publishes no hash: this one is what many projects noted down independently of each other (as MD5, it is
    # 442b8da7639aecaf257c1dceb8ba8c80). Its host has no certificate of its own, hence http: the hash is relied on.
    photographs=Source(
        "http://images.cocodataset.org/zips/val2017.zip",
        815_585_330,
        "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    ),
)
WEIGHTS_FOLDER = "descriptor"
PHOTOGRAPHS_FOLDER = "content/coco_val2017"


@dataclass(frozen=True)
class Missing:
    """Something that training needs and that is not there."""

    source: Source
    file: str
    """Where its file belongs, in the data folder."""
    instead: str = ""
    """What else may be put in its place."""
    folder: str = ""
    """Where it is unpacked to, in the data folder; empty when it stays as it is."""

    def is_here(self, data: Path) -> bool:
        """Whether its file is there already, put there by hand or by a fetch that was interrupted."""
        return _has_length(data / self.file, self.source)

    @property
    def by_hand(self) -> str:
        """What somebody can do about it."""
        return f"{self.source.url} ({self.source.bytes:,} bytes) as {self.file}{self.instead}"


def descriptor_file(settings: TrainerSettings, network: Network = "vgg19", sources: Sources = PUBLISHED) -> Path | None:
    """The weights of a descriptor network: for VGG-19 those that ATELIER_VGG names, else the ones in the data folder.

    A file of another length than the published one does not count: it is a copy that was broken off. Raises
    TrainingDataError when ATELIER_VGG names nothing.
    """
    if network == "vgg19" and settings.vgg is not None:
        if not settings.vgg.is_file():
            raise TrainingDataError("ATELIER_VGG names a file that is not there.")
        return settings.vgg
    source = sources.descriptor(network)
    file = settings.data / WEIGHTS_FOLDER / source.name
    return file if _has_length(file, source) else None


def photographs_folder(settings: TrainerSettings) -> Path | None:
    """The photographs that ATELIER_CONTENT names, else those in the data folder.

    Raises TrainingDataError when ATELIER_CONTENT names nothing.
    """
    if settings.content is not None:
        if not settings.content.is_dir():
            raise TrainingDataError("ATELIER_CONTENT names a folder that is not there.")
        return settings.content
    folder = settings.data / PHOTOGRAPHS_FOLDER
    return folder if any(path.is_file() for path in folder.rglob("*")) else None


def missing(
    settings: TrainerSettings, networks: Sequence[Network] = ("vgg19",), sources: Sources = PUBLISHED
) -> list[Missing]:
    """What a training lacks that looks through these descriptor networks."""
    lacking = [thing for network in networks for thing in _missing_descriptor(settings, network, sources)]
    if photographs_folder(settings) is None:
        instead = (
            f", or photographs of your own into {PHOTOGRAPHS_FOLDER}/, or name a folder of photographs with "
            "ATELIER_CONTENT"
        )
        lacking.append(Missing(sources.photographs, f"content/{sources.photographs.name}", instead, PHOTOGRAPHS_FOLDER))
    return lacking


def _missing_descriptor(settings: TrainerSettings, network: Network, sources: Sources) -> list[Missing]:
    if descriptor_file(settings, network, sources) is not None:
        return []
    source = sources.descriptor(network)
    instead = ", or name a file of these weights with ATELIER_VGG" if network == "vgg19" else ""
    return [Missing(source, f"{WEIGHTS_FOLDER}/{source.name}", instead)]


def fetch_missing(
    settings: TrainerSettings,
    report: Report,
    stopped: Stopped,
    *,
    networks: Sequence[Network] = ("vgg19",),
    sources: Sources = PUBLISHED,
    patience: Patience | None = None,
) -> bool:
    """Fetches what ``missing`` names. False when it was stopped before: the same call goes on with what has come.

    Of several processes with one data folder, one fetches and the others wait. Raises TrainingDataError that says what
    to put where when something cannot be fetched, or may not be (ATELIER_FETCH=never).
    """
    lacking = missing(settings, networks, sources)
    if not lacking:
        return True
    if settings.fetch == "never" and not all(thing.is_here(settings.data) for thing in lacking):
        raise TrainingDataError(f"ATELIER_FETCH=never forbids to fetch what training needs. {_advice(lacking)}")
    with _alone(settings.data, report, stopped) as alone:
        if not alone:
            return False
        lacking = missing(settings, networks, sources)  # others may have fetched it meanwhile
        meter = _Meter(report, sum(thing.source.bytes * (1 + UNPACKING * bool(thing.folder)) for thing in lacking))
        try:
            return all(_fetch(thing, settings, meter, stopped, patience) for thing in lacking)
        except TrainingDataError as error:
            asked = "ATELIER_MIRROR was asked. " if settings.mirror else ""
            raise TrainingDataError(f"{error} {asked}{_advice(missing(settings, networks, sources))}") from error


def _fetch(
    thing: Missing, settings: TrainerSettings, meter: "_Meter", stopped: Stopped, patience: Patience | None
) -> bool:
    name, total, file = thing.source.name, thing.source.bytes, settings.data / thing.file
    loading = meter.stage(total, lambda done: f"{name}: {megabytes(done)} of {megabytes(total)} MB")
    if not thing.is_here(settings.data):
        source = thing.source.on(settings.mirror) if settings.mirror else thing.source
        if not download(source, file, progress=loading, stopped=stopped, patience=patience):
            return False
    if not thing.folder:
        return True
    unpacking = meter.stage(UNPACKING * total, lambda done: f"{name}: {done:,} photographs unpacked")
    return unpack(file, settings.data / thing.folder, progress=unpacking, stopped=stopped)


def _advice(lacking: Sequence[Missing]) -> str:
    return (
        "Run `atelier content fetch` where there is a network, or put into the data folder (ATELIER_DATA) "
        f"{'; and '.join(thing.by_hand for thing in lacking)}."
    )


def _has_length(file: Path, source: Source) -> bool:
    return file.is_file() and file.stat().st_size == source.bytes


class _Meter:
    """Says how far everything is, of stages that weigh unlike."""

    def __init__(self, report: Report, weight: float) -> None:
        self._report = report
        self._weight = weight
        self._behind = 0.0
        self._reported = 0.0

    def stage(self, weight: float, line: Callable[[int], str]) -> Advance:
        """What to tell about the next stage."""
        before, self._behind = self._behind, self._behind + weight

        def advance(done: int, of: int) -> None:
            if done < of and time.monotonic() - self._reported < REPORT_SECONDS:
                return
            self._reported = time.monotonic()
            self._report(line(done), min(1.0, (before + weight * done / of) / self._weight))

        return advance


@contextmanager
def _alone(data: Path, report: Report, stopped: Stopped) -> Iterator[bool]:
    """Only one process at a time is in here. False when somebody asked to stop before it was our turn."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        file = (data / "fetch.lock").open("a")
    except OSError as error:
        raise TrainingDataError(f"The data folder cannot be written: {reason(error)}.") from error
    with file:  # whoever closes it, or dies, gives it back
        while not stopped():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report("another process fetches what training needs", 0.0)
                pause(REPORT_SECONDS, stopped)
            else:
                yield True
                return
        yield False

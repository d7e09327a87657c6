"""Which engine runs the networks: the fastest of those that are installed and compute the same, by measurement.

On CUDA it is PyTorch, or its compiler where that is asked for. On the CPU each candidate stylizes a probe picture; one
that cannot, or that is further from PyTorch in float32 than ``LEAST_PSNR``, is refused. Int8 is further away than that,
and twice as fast or more: it is taken when it is asked for, and held against ``LEAST_PSNR_INT8``.
"""

import copy
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import structlog
import torch
from torch import Tensor

from contract.errors import SettingsError
from contract.logs import configure_logs
from generator.devices import reuse_freed_memory
from generator.network import Generator, GeneratorConfig
from worker.engine import BuildNetwork
from worker.kept import Kept
from worker.networks import CompiledNetwork, GraphNetwork, Network, TorchNetwork
from worker.runtimes import MnnRuntime, OpenVinoRuntime, Runtime, threads
from worker.steps import has_steps

log = structlog.get_logger()

GRAPHS = 2
"""Raised when networks are written in another way for the engines: then it is found out again which is the fastest."""

LEAST_PSNR = 45.0
"""In dB, of values 0..1."""
LEAST_PSNR_INT8 = 35.0
"""Of the built-in styles on three photographs, the worst came to 38.8 and the median to 45.6."""
TRUTH = ("torch", "float32")
PROBE_SIDE = 256
PROBE_RUNS = 3
CPU_LINES = ("model name", "Processor", "cpu family", "model\t", "flags", "Features")
"""Of /proc/cpuinfo, on x86 and on Arm."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = {
    ("torch", "cpu"): ("float32", "bfloat16"),
    ("torch", "cuda"): ("float16", "bfloat16", "float32"),
    ("mnn", "cpu"): ("float32",),
    ("openvino", "cpu"): ("bfloat16", "float32", "int8"),
    ("inductor", "cpu"): ("float32", "bfloat16"),
    ("inductor", "cuda"): ("float16", "bfloat16", "float32"),
}
"""What each engine computes in, the default first. Of OpenVINO's, bfloat16 where the processor has it and float32 are
measured."""
WHEN_ASKED_FOR = ("inductor",)
"""It needs a C++ compiler on a CPU, and a minute before its first picture."""
TORCH_NETWORKS = {"torch": TorchNetwork, "inductor": CompiledNetwork}


@dataclass(frozen=True)
class Probe:
    """A network and what it is measured with."""

    generator: Generator
    style: Tensor  # S

    @classmethod
    def random(cls) -> "Probe":
        """A full-width network with random weights: what there is to measure with where no style is installed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            generator = Generator(GeneratorConfig()).eval()
        return cls(generator, generator.neutral_style())

    def picture(self) -> Tensor:
        """Stripes and noise [1,3,H,W]: edges as well as flat areas."""
        noise = torch.rand((1, 3, PROBE_SIDE, PROBE_SIDE), generator=torch.Generator().manual_seed(0))
        waves = torch.linspace(0, 40, PROBE_SIDE).sin().add(1).div(2)
        return (0.2 * noise + 0.8 * waves[:, None] * waves.roll(PROBE_SIDE // 3)).clamp(0, 1)


@dataclass(frozen=True)
class Candidate:
    engine: str
    precision: str
    build: BuildNetwork


Chosen = tuple[str, str]
"""An engine and a precision."""
Measure = Callable[[torch.device, str, str, Path, Probe], Chosen | None]


def choose(
    device: torch.device,
    engine: str,
    precision: str,
    cache: Path,
    probe: Callable[[], Probe],
    measure: Measure | None = None,
) -> BuildNetwork:
    """How to run a network on this device, with the engine and the precision that are asked for, if any are.

    Raises SettingsError when what is asked for is not to be had here.
    """
    _check(device, engine, precision)
    remembered = cache / "choice.json"
    here = {
        "device": device.type,
        "asked": [engine, precision],
        "versions": {**_versions(), "graphs": GRAPHS},
        "processor": _processor(_cpuinfo()),
        "threads": threads(),
    }
    kept = Kept(cache)
    known = _known(remembered, here) or _without_a_choice(device, engine, precision)
    chosen = known
    if not chosen and (chosen := (measure or _measured_apart)(device, engine, precision, cache, probe())):
        kept.keep(remembered.name, json.dumps({"here": here, "chosen": chosen}).encode())
    chosen = chosen or ("torch", PRECISIONS["torch", device.type][0])
    best = next(_candidates(device, *chosen, kept))  # the others are not even loaded
    log.info("engine chosen", engine=best.engine, precision=best.precision, device=str(device))

    def build(generator: Generator) -> Network:
        if has_steps(generator.config):
            return best.build(generator)
        return TorchNetwork(generator, device)

    return build


def measured(device: torch.device, engine: str, precision: str, cache: Path, probe: Probe) -> Chosen:
    """The fastest of those that may be chosen. All of them are loaded, and their memory is not given back."""
    found = list(_candidates(device, engine, precision, Kept(cache)))
    if not found:
        raise SettingsError(
            f"What runs ATELIER_ENGINE={engine} with ATELIER_PRECISION={precision} is not installed here: install it, "
            "or leave both empty."
        )
    best = _fastest(found, probe)
    return best.engine, best.precision


def _measured_apart(
    device: torch.device, engine: str, precision: str, cache: Path, probe: Probe, work: Measure = measured
) -> Chosen | None:
    """As ``work``, in a process of its own: with it the memory goes, and it dies alone where an engine crashes.

    None when it did.
    """
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _like_a_worker) as apart:
            return apart.submit(work, device, engine, precision, cache, probe).result()
    except BrokenProcessPool as error:
        if engine or precision:
            raise SettingsError(
                f"ATELIER_ENGINE={engine} with ATELIER_PRECISION={precision} crashes here: leave both empty."
            ) from error
        log.exception("an engine crashes here: it is PyTorch this time")
        return None


def _like_a_worker() -> None:
    configure_logs("worker")
    reuse_freed_memory()


def _without_a_choice(device: torch.device, engine: str, precision: str) -> Chosen | None:
    """What is asked for, if it is what all others are held against."""
    return TRUTH if (device.type, engine) == ("cpu", "torch") and precision in ("", TRUTH[1]) else None


def _check(device: torch.device, engine: str, precision: str) -> None:
    engines = {name: choices for (name, kind), choices in PRECISIONS.items() if kind == device.type}
    if engine and engine not in engines:
        raise SettingsError(f"ATELIER_ENGINE on {device.type} is one of {', '.join(engines)}, and not {engine!r}.")
    able = engines[engine] if engine else tuple(dict.fromkeys(sum(engines.values(), ())))
    if precision and precision not in able:
        raise SettingsError(f"ATELIER_PRECISION is one of {', '.join(able)} here, and not {precision!r}.")


def _candidates(device: torch.device, engine: str, precision: str, kept: Kept) -> Iterator[Candidate]:
    for (name, kind), precisions in PRECISIONS.items():
        if kind != device.type or engine not in ("", name) or precision not in ("", *precisions):
            continue
        if name in WHEN_ASKED_FOR and engine != name:
            continue
        if name in TORCH_NETWORKS:
            chosen = precision or precisions[0]
            yield Candidate(name, chosen, partial(TORCH_NETWORKS[name], device=device, dtype=DTYPES[chosen]))
            continue
        for runtime in _runtimes(name, precision, kept):
            yield Candidate(name, runtime.precision, partial(GraphNetwork, runtime=runtime))


def _runtimes(name: str, precision: str, kept: Kept) -> list[Runtime]:
    """An engine in the precision that is asked for, or in each that may be the fastest here; none if not installed."""
    try:
        if name == "mnn":
            return [MnnRuntime(kept)]
        runtime = OpenVinoRuntime(kept, precision)
        exact = runtime.precision == "float32"
        return [runtime] if precision or exact else [runtime, OpenVinoRuntime(kept, "float32")]
    except ImportError as error:
        log.info("engine is not installed", engine=name, reason=str(error))
        return []


def _known(remembered: Path, here: dict[str, Any]) -> tuple[str, str] | None:
    """The engine and the precision that were the fastest before, on this processor and with these versions."""
    try:
        match json.loads(remembered.read_text()):
            case {"here": there, "chosen": [str(engine), str(precision)]} if there == here:
                return engine, precision
    except (OSError, ValueError):
        pass
    return None


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "MNN", "openvino") if find_spec(name)}


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _processor(cpuinfo: str) -> list[str]:
    """What tells processors apart, as far as the system does: some names stand for several, of other abilities."""
    lines = cpuinfo.splitlines()
    parts = (next((line for line in lines if line.startswith(name)), "") for name in CPU_LINES)
    return [" ".join(part.split()) for part in parts if part] or [platform.processor()]


def _fastest(candidates: list[Candidate], probe: Probe) -> Candidate:
    content, style = probe.picture(), probe.style[None]
    truth = TorchNetwork(probe.generator, torch.device("cpu")).stylize(content, style)
    seconds: dict[str, float] = {}
    accepted: list[tuple[float, Candidate]] = []
    for candidate in candidates:
        named = {"engine": candidate.engine, "precision": candidate.precision}
        try:
            network = candidate.build(copy.deepcopy(probe.generator))  # which PyTorch moves to its device
            quality = psnr(network.stylize(content, style), truth)
            took = statistics.median(_seconds(network, content, style) for _ in range(PROBE_RUNS))
        except Exception:  # whatever a foreign library raises on this processor, another engine may do without
            log.exception("engine cannot run", **named)
            continue
        if quality < (LEAST_PSNR_INT8 if candidate.precision == "int8" else LEAST_PSNR):
            log.warning(
                "engine refused", engine=candidate.engine, precision=candidate.precision, psnr=round(quality, 1)
            )
            continue
        seconds[f"{candidate.engine} {candidate.precision}"] = round(took, 4)
        accepted.append((took, candidate))
    log.info("engines measured", side=PROBE_SIDE, seconds=seconds)
    if not accepted:
        raise SettingsError(
            "No engine computes here what PyTorch does: set ATELIER_ENGINE=torch, and no ATELIER_PRECISION."
        )
    return min(accepted, key=lambda measured: measured[0])[1]


def psnr(stylized: Tensor, truth: Tensor) -> float:
    """How close two pictures of values 0..1 are, in dB."""
    error = (stylized.clamp(0, 1) - truth.clamp(0, 1)).square().mean()
    return float("inf") if error == 0 else float(-10 * error.log10())


def _seconds(network: Network, content: Tensor, style: Tensor) -> float:
    start = time.perf_counter()
    network.stylize(content, style)
    return time.perf_counter() - start

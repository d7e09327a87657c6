"""The choice of an engine, by measurement."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from contract.errors import SettingsError
from generator.network import Generator, GeneratorConfig
from tests.conftest import tiny_bank
from worker import choice
from worker.choice import Candidate, Probe, choose
from worker.kept import Kept
from worker.networks import GraphNetwork, TorchNetwork

CPU = torch.device("cpu")
BANK = tiny_bank("one", width=8)


def probe() -> Probe:
    return Probe(BANK.generator(), BANK.styles[0])


def no_probe() -> Probe:
    raise AssertionError("nothing is to be measured")


def build(engine: str, cache: Path, precision: str = "") -> object:
    return choose(CPU, engine, precision, cache, probe, choice.measured)(BANK.generator())


def test_an_engine_can_be_asked_for(tmp_path: Path) -> None:
    assert isinstance(build("torch", tmp_path), TorchNetwork)
    for engine in ("mnn", "openvino"):
        network = build(engine, tmp_path / engine)
        assert isinstance(network, GraphNetwork)
        assert network._runtime.name == engine


def test_pytorch_in_single_precision_needs_no_measurement(tmp_path: Path) -> None:
    choose(CPU, "torch", "", tmp_path, no_probe)


@pytest.mark.parametrize(
    ("engine", "precision", "said"),
    [
        ("tensorrt", "", "ATELIER_ENGINE on cpu is one of torch, mnn, openvino, inductor"),
        ("mnn", "bfloat16", "ATELIER_PRECISION is one of float32"),
        ("", "float64", "ATELIER_PRECISION is one of float32, bfloat16"),
    ],
)
def test_what_is_not_to_be_had_is_said(engine: str, precision: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=said):
        choose(CPU, engine, precision, tmp_path, no_probe)


def test_all_that_are_installed_are_measured(tmp_path: Path) -> None:
    found = [candidate.engine for candidate in choice._candidates(CPU, "", "", Kept(tmp_path))]
    assert list(dict.fromkeys(found)) == ["torch", "mnn", "openvino"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_compiler_is_taken_only_when_it_is_asked_for(device: str, tmp_path: Path) -> None:
    def found(engine: str) -> list[str]:
        return [c.engine for c in choice._candidates(torch.device(device), engine, "", Kept(tmp_path))]

    assert "torch" in found("")
    assert "inductor" not in found("")
    assert found("inductor") == ["inductor"]


def test_processors_of_one_name_that_can_do_other_things_are_told_apart() -> None:
    one = (
        "processor\t: 0\nmodel name\t: EPYC\nmodel\t\t: 1\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n"
    )
    other = one.replace("avx2", "avx2 avx512_bf16")
    assert choice._processor(one) == ["model name : EPYC", "model : 1", "flags : fpu avx2"]
    assert choice._processor(one) != choice._processor(other)
    assert choice._processor("hart\t: 0\nisa\t: rv64gc\n") == choice._processor("")  # what the platform says


def test_int8_is_taken_only_when_it_is_asked_for(tmp_path: Path) -> None:
    def found(precision: str) -> list[tuple[str, str]]:
        return [(c.engine, c.precision) for c in choice._candidates(CPU, "", precision, Kept(tmp_path))]

    assert ("openvino", "int8") not in found("")
    assert found("int8") == [("openvino", "int8")]
    network = build("", tmp_path, "int8")
    assert isinstance(network, GraphNetwork)
    assert network._runtime.precision == "int8"


def test_the_fastest_is_chosen_and_remembered(tmp_path: Path) -> None:
    chosen = choose(CPU, "", "", tmp_path, probe, choice.measured)(BANK.generator())
    remembered = json.loads((tmp_path / "choice.json").read_text())["chosen"]
    assert remembered == [chosen.engine, chosen.precision]
    again = choose(CPU, "", "", tmp_path, no_probe)(BANK.generator())
    assert type(again) is type(chosen)


LOAD_WHAT_IS_KNOWN = """
import sys
from pathlib import Path
import torch
from worker.choice import choose
choose(torch.device("cpu"), "", "", Path(sys.argv[1]), lambda: sys.exit("nothing is to be measured"))
assert "MNN" in sys.modules
assert "openvino" not in sys.modules
"""


def test_engines_that_were_not_chosen_before_are_not_loaded(tmp_path: Path) -> None:
    choose(CPU, "", "", tmp_path, probe, choice.measured)
    path = tmp_path / "choice.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chosen": ["mnn", "float32"]}))
    subprocess.run([sys.executable, "-c", LOAD_WHAT_IS_KNOWN, str(tmp_path)], check=True)


MEASURE_AND_LIST = """
import sys
from pathlib import Path
import torch
from tests.worker.test_choice import probe
from worker.choice import choose
if __name__ == "__main__":
    choose(torch.device("cpu"), "", "", Path(sys.argv[1]), probe)
    print("loaded:", *(name for name in ("MNN", "openvino") if name in sys.modules))
"""


def test_engines_are_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    script = tmp_path / "measure.py"
    script.write_text(MEASURE_AND_LIST)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(tmp_path / "engine")]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    chosen = json.loads((tmp_path / "engine" / "choice.json").read_text())["chosen"][0]
    assert said.splitlines()[-1].split()[1:] == [{"mnn": "MNN"}.get(chosen, chosen)] * (chosen != "torch")


def crashes(*_: object) -> tuple[str, str]:
    os._exit(1)


def test_an_engine_that_crashes_takes_nobody_along(tmp_path: Path) -> None:
    apart = partial(choice._measured_apart, work=crashes)
    assert isinstance(choose(CPU, "", "", tmp_path, probe, apart)(BANK.generator()), TorchNetwork)
    with pytest.raises(SettingsError, match="crashes here"):
        choose(CPU, "mnn", "", tmp_path / "other", probe, apart)


def test_an_engine_that_is_asked_for_is_not_answered_with_the_one_remembered(tmp_path: Path) -> None:
    choose(CPU, "mnn", "", tmp_path, probe, choice.measured)
    network = choose(CPU, "openvino", "", tmp_path, probe, choice.measured)(BANK.generator())
    assert isinstance(network, GraphNetwork)
    assert network._runtime.name == "openvino"


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("where the folder should be")
    for engine in ("mnn", "openvino"):
        network = build(engine, tmp_path / "file")
        assert isinstance(network, GraphNetwork)
        assert network.stylize(torch.rand(1, 3, 32, 32), BANK.styles).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"here": {}, "chosen": ["mnn", "float32"]}'])
def test_what_was_remembered_for_another_machine_does_not_count(text: str, tmp_path: Path) -> None:
    (tmp_path / "choice.json").write_text(text)
    measured: list[int] = []

    def counted() -> Probe:
        measured.append(1)
        return probe()

    choose(CPU, "", "", tmp_path, counted, choice.measured)
    assert measured == [1]


class Wrong(TorchNetwork):
    """As fast as can be, and not the same picture."""

    def stylize(self, content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return content + style.mean()


class Broken(TorchNetwork):
    def stylize(self, content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"illegal instruction for {content.shape} and {style.shape}")


def candidates(*networks: type[TorchNetwork]) -> list[Candidate]:
    return [Candidate(n.__name__, "float32", lambda g, n=n: n(g, CPU)) for n in networks]  # type: ignore[misc]


def test_an_engine_that_makes_another_picture_is_refused_however_fast_it_is() -> None:
    assert choice._fastest(candidates(TorchNetwork, Wrong), probe()).engine == "TorchNetwork"


def test_an_engine_that_cannot_run_here_is_passed_over() -> None:
    assert choice._fastest(candidates(Broken, TorchNetwork), probe()).engine == "TorchNetwork"


def test_int8_may_be_further_away_but_not_make_another_picture() -> None:
    def int8(away: float) -> Candidate:
        class Away(TorchNetwork):
            def stylize(self, content: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
                return super().stylize(content, style).clamp(0.1, 0.9) + away

        return Candidate("away", "int8", lambda generator: Away(generator, CPU))

    grey = Probe(BANK.generator(), torch.zeros_like(BANK.styles[0]))  # one level of grey
    grey.style[-3:] = 0.5
    assert choice._fastest([int8(0.01)], grey).engine == "away"  # 40 dB
    with pytest.raises(SettingsError, match="ATELIER_PRECISION"):
        choice._fastest([int8(0.03)], grey)  # 30 dB


def test_no_engine_that_computes_the_same_is_an_error() -> None:
    with pytest.raises(SettingsError, match="ATELIER_ENGINE=torch"):
        choice._fastest(candidates(Broken, Wrong), probe())


def test_networks_that_have_no_graph_run_in_pytorch(tmp_path: Path) -> None:
    pyramid = Generator(GeneratorConfig("pyramid", width=2)).eval()
    assert isinstance(choose(CPU, "mnn", "", tmp_path, probe, choice.measured)(pyramid), TorchNetwork)


def test_without_a_style_a_network_of_random_weights_is_measured() -> None:
    found = Probe.random()
    assert found.generator.config.width == 32
    assert torch.equal(found.picture(), Probe.random().picture())
    assert found.picture().shape == (1, 3, 256, 256)

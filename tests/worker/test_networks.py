"""Networks: the graphs in inference engines make what PyTorch makes."""

import shutil

import openvino
import pytest
import torch

from generator.network import Generator, GeneratorConfig
from tests.conftest import tiny_bank
from worker.choice import psnr
from worker.direct import direct
from worker.graph import CONTENT, STYLE
from worker.kept import Kept
from worker.networks import CompiledNetwork, GraphNetwork, TorchNetwork
from worker.runtimes import MnnRuntime, OpenVinoRuntime, Runtime
from worker.steps import steps

CPU = torch.device("cpu")
BANK = tiny_bank("one", "two", "three", width=8)
EXACT = 80.0
"""In dB: what is left is rounding in float32, in another order."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("engine"))


@pytest.fixture(params=["mnn", "openvino"])
def runtime(request: pytest.FixtureRequest, kept: Kept) -> Runtime:
    return MnnRuntime(kept) if request.param == "mnn" else OpenVinoRuntime(kept, "float32")


def picture(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (37, 53), (16, 130), (129, 16)])
def test_a_graph_makes_what_the_module_makes(runtime: Runtime, height: int, width: int) -> None:
    content = picture(1, 3, height, width)
    stylized = GraphNetwork(BANK.generator(), runtime).stylize(content, BANK.styles[:1])
    truth = TorchNetwork(BANK.generator(), CPU).stylize(content, BANK.styles[:1])
    assert stylized.shape == truth.shape
    assert psnr(stylized, truth) > EXACT


def test_one_graph_serves_every_style_size_and_batch(runtime: Runtime) -> None:
    network, truth = GraphNetwork(BANK.generator(), runtime), TorchNetwork(BANK.generator(), CPU)
    for batch, side in ((1, 32), (3, 48), (2, 32), (1, 64), (1, 32)):
        content, style = picture(batch, 3, side, side), BANK.styles[:batch].flip(0)
        assert psnr(network.stylize(content, style), truth.stylize(content, style)) > EXACT


def test_an_answer_is_not_overwritten_by_the_next(runtime: Runtime) -> None:
    network = GraphNetwork(BANK.generator(), runtime)
    first = network.stylize(picture(1, 3, 32, 32), BANK.styles[:1])
    kept = first.clone()
    network.stylize(1 - picture(1, 3, 32, 32), BANK.styles[1:2])
    assert torch.equal(first, kept)


SWEEPS = [
    (0, 0, False),
    (0, 1, False),
    (2, 2, True),
    (3, 3, False),
    (4, 4, True),
    (13, 13, False),
    (14, 14, True),
    (14, 15, True),
]
"""First and last step, and whether what comes in is raw: the kinds that tiles are made with."""


def sweep_input(first: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """As tiles have it: channels last in memory."""
    channels = steps(BANK.generator())[first].convolution.in_channels
    return picture(1, height, width, channels).to(dtype).permute(0, 3, 1, 2)


AFFINES = {
    index: (picture(step.convolution.out_channels) + 0.5, picture(step.convolution.out_channels) - 0.5)
    for index, step in enumerate(steps(BANK.generator()))
}


@pytest.mark.parametrize(("first", "last", "leading"), SWEEPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_sweep_is_the_same_in_a_graph(
    runtime: Runtime, first: int, last: int, leading: bool, dtype: torch.dtype
) -> None:
    graph = GraphNetwork(BANK.generator(), runtime).sweep(first, last, leading=leading)
    module = TorchNetwork(BANK.generator(), CPU).sweep(first, last, leading=leading)
    for height, width in ((32, 48), (40, 32), (32, 48)):
        x = sweep_input(first, height, width, torch.float32 if first == 0 else dtype)
        truth = module(x, AFFINES)
        assert (graph(x, AFFINES) - truth).abs().max() < 5e-3 * truth.std()


@pytest.mark.parametrize(("first", "last", "leading"), SWEEPS)
def test_a_sweep_takes_and_gives_what_the_processor_computes_in(
    kept: Kept, first: int, last: int, leading: bool
) -> None:
    """bfloat16 where it has that."""
    network = GraphNetwork(BANK.generator(), OpenVinoRuntime(kept))
    x = sweep_input(first, 32, 48, torch.float32 if first == 0 else network.sweep_dtype)
    output = network.sweep(first, last, leading=leading)(x, AFFINES)
    truth = TorchNetwork(BANK.generator(), CPU).sweep(first, last, leading=leading)(x, AFFINES)
    assert output.dtype is network.sweep_dtype
    assert (output.float() - truth).square().mean().sqrt() < 0.05 * truth.std()


def test_what_a_sweep_gave_is_not_overwritten_by_the_next(runtime: Runtime) -> None:
    """Statistics of one tile are taken while the next one is computed."""
    run = GraphNetwork(BANK.generator(), runtime).sweep(3, 3, leading=False)
    x = sweep_input(3, 32, 32)
    first = run(x, AFFINES)
    kept = first.clone()
    run(1 - x, AFFINES)
    assert torch.equal(first, kept)


FLAT = torch.full((1, 3, 32, 48), 0.3)


@pytest.mark.parametrize("content", [picture(1, 3, 64, 48), picture(1, 3, 37, 53), FLAT], ids=["even", "odd", "flat"])
@pytest.mark.parametrize("row", range(3))
def test_int8_is_close(content: torch.Tensor, row: int, kept: Kept) -> None:
    style = BANK.styles[row : row + 1]
    stylized = GraphNetwork(BANK.generator(), OpenVinoRuntime(kept, "int8")).stylize(content, style)
    truth = TorchNetwork(BANK.generator(), CPU).stylize(content, style)
    assert psnr(stylized, truth) > 35


def test_in_int8_each_picture_of_a_batch_has_its_own_range(kept: Kept) -> None:
    network = GraphNetwork(BANK.generator(), OpenVinoRuntime(kept, "int8"))
    content = picture(1, 3, 32, 32)
    weak, strong = BANK.styles[:1], 50 * BANK.styles[1:2]
    together = network.stylize(torch.cat([content, content]), torch.cat([weak, strong]))
    assert psnr(together[:1], network.stylize(content, weak)) > 35


def test_openvino_runs_every_convolution_in_int8() -> None:
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(direct(BANK.generator(), quantised=True), b""), "CPU")
    compiled.create_infer_request().infer({CONTENT: picture(1, 3, 32, 32).numpy(), STYLE: BANK.styles[:1].numpy()})
    nodes = [
        {
            name: str(value.astype(str))
            for name, value in node.get_rt_info().items()
            if name in ("layerType", "runtimePrecision")
        }
        for node in compiled.get_runtime_model().get_ops()
    ]
    kinds = [node["runtimePrecision"] for node in nodes if node.get("layerType") == "Convolution"]
    assert sum(kind in ("i8", "u8") for kind in kinds) == len(steps(BANK.generator()))


def test_the_sweeps_of_all_steps_make_the_picture() -> None:
    """With the statistics of a whole picture, one sweep over everything up to the first block is the network's own."""
    generator = Generator(GeneratorConfig(width=4)).eval()
    network = TorchNetwork(generator, CPU)
    content = picture(1, 3, 32, 32)
    raw = network.sweep(0, 0, leading=False)(content, {})
    assert torch.allclose(raw, steps(generator)[0].convolution(content))


def test_converted_graphs_are_kept(kept: Kept) -> None:
    GraphNetwork(BANK.generator(), MnnRuntime(kept)).stylize(picture(1, 3, 32, 32), BANK.styles[:1])
    folder = kept.folder
    assert folder
    before = {path: path.stat().st_ino for path in folder.glob("*.mnn")}
    GraphNetwork(BANK.generator(), MnnRuntime(kept)).stylize(picture(1, 3, 32, 32), BANK.styles[:1])
    assert before
    assert {path: path.stat().st_ino for path in folder.glob("*.mnn")} == before


def test_what_an_engine_takes_counts_more_than_the_weights(runtime: Runtime) -> None:
    assert GraphNetwork(BANK.generator(), runtime).nbytes > TorchNetwork(BANK.generator(), CPU).nbytes


def test_half_precision_in_pytorch_is_close() -> None:
    content = picture(1, 3, 64, 64)
    half = TorchNetwork(BANK.generator(), CPU, torch.bfloat16).stylize(content, BANK.styles[:1])
    assert half.dtype is torch.float32
    assert psnr(half, TorchNetwork(BANK.generator(), CPU).stylize(content, BANK.styles[:1])) > 35


# --- PyTorch's compiler --------------------------------------------------------------------------------------------


def _compiled_makes_what_pytorch_makes() -> None:
    network, truth = CompiledNetwork(BANK.generator(), CPU), TorchNetwork(BANK.generator(), CPU)
    for batch, height, width in ((1, 64, 64), (1, 37, 53), (2, 48, 40)):
        content, style = picture(batch, 3, height, width), BANK.styles[:batch]
        stylized = network.stylize(content, style)
        assert stylized.shape == content.shape
        assert psnr(stylized, truth.stylize(content, style)) > EXACT


def test_what_is_to_be_compiled_makes_what_pytorch_makes() -> None:
    with torch.compiler.set_stance("force_eager"):  # everything but the compiler
        _compiled_makes_what_pytorch_makes()


@pytest.mark.chaos
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a C++ compiler")
def test_what_the_compiler_makes_is_what_pytorch_makes() -> None:
    _compiled_makes_what_pytorch_makes()

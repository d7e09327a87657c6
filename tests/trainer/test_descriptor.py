"""The descriptor network: torchvision's own layers, whatever the file, and a scale that does not matter."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor, nn
from torchvision.models import vgg16, vgg19

from contract.errors import CheckpointError
from tests.trainer.conftest import SHALLOW, pictures
from trainer.descriptor import Descriptor, Network, layer_positions
from trainer.perceptual import LossConfig, PerceptualLoss

CONFIG = LossConfig()
ALL = tuple(name for name, position in layer_positions("vgg19").items() if position <= 20)
"""The layers of which the tests have weights."""


# --- Its layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "build"), [("vgg16", vgg16), ("vgg19", vgg19)])
def test_layers_are_where_torchvision_has_them(network: Network, build: Callable[..., nn.Module]) -> None:
    with torch.device("meta"):
        features = build(weights=None).features
    block, convolution, found = 1, 0, {}
    for position, layer in enumerate(features):  # type: ignore[arg-type]
        if isinstance(layer, nn.MaxPool2d):
            block, convolution = block + 1, 0
        elif isinstance(layer, nn.ReLU):
            convolution += 1
            assert isinstance(features[position - 1], nn.Conv2d)  # type: ignore[index]
            found[f"relu{block}_{convolution}"] = position
    assert layer_positions(network) == found
    assert len(found) == int(network[3:]) - 3, "all but the three layers that classify"


@torch.no_grad()
def test_features_are_rectified_and_halved_with_each_block(vgg: Path) -> None:
    features = Descriptor(vgg, ALL)(pictures(1))
    assert {name: tuple(f.shape) for name, f in features.items()} == {
        "relu1_1": (1, 64, 32, 32),
        "relu1_2": (1, 64, 32, 32),
        "relu2_1": (1, 128, 16, 16),
        "relu2_2": (1, 128, 16, 16),
        "relu3_1": (1, 256, 8, 8),
        "relu3_2": (1, 256, 8, 8),
        "relu3_3": (1, 256, 8, 8),
        "relu3_4": (1, 256, 8, 8),
        "relu4_1": (1, 512, 4, 4),
    }
    assert all(f.min() == 0 and f.max() > 0 for f in features.values())


@torch.no_grad()
def test_the_weights_come_from_the_file_and_the_picture_is_normalised(vgg: Path) -> None:
    tensors = safetensors.torch.load_file(vgg)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    picture = pictures(1)
    seen = (picture - mean[:, None, None]) / std[:, None, None]
    expected = F.relu(F.conv2d(seen, tensors["features.0.weight"], tensors["features.0.bias"], padding=1))
    assert torch.allclose(Descriptor(vgg, ["relu1_1"])(picture)["relu1_1"], expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("asked", "last"), [(None, 20), (("relu1_1",), 1), (("relu3_1", "relu2_1"), 11), (["relu4_1"], 20)]
)
def test_no_deeper_layer_is_run_than_the_deepest_that_is_asked_for(
    vgg: Path, asked: tuple[str, ...] | None, last: int
) -> None:
    descriptor = Descriptor(vgg, CONFIG.layers)
    run: list[int] = []
    for position, layer in enumerate(descriptor.features):
        layer.register_forward_hook(lambda *_, position=position: run.append(position))
    features = descriptor(pictures(1), asked)
    assert run == list(range(last + 1))
    assert features.keys() == set(asked or CONFIG.layers)


@torch.no_grad()
def test_features_of_some_layers_are_those_among_all(vgg: Path) -> None:
    descriptor = Descriptor(vgg, CONFIG.layers)
    some, every = descriptor(pictures(1), ("relu1_1", "relu3_1")), descriptor(pictures(1))
    assert all(torch.equal(some[name], every[name]) for name in some)


def test_the_descriptor_is_never_trained(vgg: Path) -> None:
    descriptor = Descriptor(vgg, SHALLOW.layers)
    assert not any(weight.requires_grad for weight in descriptor.parameters())


# --- Its file ------------------------------------------------------------------------------------------------------


def as_torchvision_writes_it(vgg: Path, target: Path, *, zipped: bool) -> Path:
    """With the layers that classify. torchvision's own files are older than zipped ones."""
    state = {**safetensors.torch.load_file(vgg), "classifier.0.weight": torch.zeros(4, 4)}
    torch.save(state, target, _use_new_zipfile_serialization=zipped)
    return target


@torch.no_grad()
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torchvision_is_as_good_as_one_of_safetensors(vgg: Path, tmp_path: Path, zipped: bool) -> None:
    path = as_torchvision_writes_it(vgg, tmp_path / "vgg19-01234567.pth", zipped=zipped)
    one, other = Descriptor(path, CONFIG.layers)(pictures(1)), Descriptor(vgg, CONFIG.layers)(pictures(1))
    assert all(torch.equal(one[name], other[name]) for name in CONFIG.layers)


@torch.no_grad()
def test_vgg_16_has_weights_of_its_own(tmp_path: Path) -> None:
    """Its third block is shorter than that of VGG-19."""
    with torch.device("meta"):
        shapes = vgg16(weights=None).features[:17].state_dict()
    state = {f"features.{name}": 0.02 * torch.randn(like.shape) for name, like in shapes.items()}
    torch.save(state, tmp_path / "vgg16.pth")
    features = Descriptor(tmp_path / "vgg16.pth", ["relu2_2", "relu3_3"], "vgg16")(pictures(1))
    assert {name: f.shape[1:] for name, f in features.items()} == {"relu2_2": (128, 16, 16), "relu3_3": (256, 8, 8)}
    with pytest.raises(CheckpointError, match=r"^vgg16\.pth does not hold the VGG-16 weights that relu4_1 needs"):
        Descriptor(tmp_path / "vgg16.pth", ["relu1_1", "relu4_1"], "vgg16")


def test_a_descriptor_needs_no_more_layers_than_its_losses(vgg: Path, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(vgg)
    path = tmp_path / "part.safetensors"
    safetensors.torch.save_file(
        {n: t for n, t in tensors.items() if n.startswith(("features.0.", "features.2."))}, path
    )
    assert Descriptor(path, ["relu1_1", "relu1_2"])(pictures(1)).keys() == {"relu1_1", "relu1_2"}
    with pytest.raises(CheckpointError, match=r"part\.safetensors does not hold the VGG-19 .* relu2_1.*5\.weight"):
        Descriptor(path, ["relu1_1", "relu2_1"])


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    shapes = {"features.0.weight": torch.zeros(32, 3, 3, 3), "features.0.bias": torch.zeros(32)}
    safetensors.torch.save_file(shapes, path)
    with pytest.raises(CheckpointError, match=r"other\.safetensors does not hold"):
        Descriptor(path, ["relu1_1"])


@pytest.mark.parametrize("name", ["vgg.safetensors", "vgg.pth"])
@pytest.mark.parametrize("data", [None, b"", b"not weights at all", b"PK\x03\x04 a broken zip", b"\x80\x02}q\x00."])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, name: str, data: bytes | None) -> None:
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{re.escape(name)} does not hold"):
        Descriptor(path, ["relu1_1"])


@pytest.mark.parametrize("what", [[torch.zeros(2)], torch.zeros(2), {1: torch.zeros(2)}, {"features.0.weight": 1}])
def test_a_pytorch_file_of_something_else_is_refused(tmp_path: Path, what: object) -> None:
    torch.save(what, tmp_path / "vgg.pth")
    with pytest.raises(CheckpointError, match=r"vgg\.pth does not hold"):
        Descriptor(tmp_path / "vgg.pth", ["relu1_1"])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0001, 0.3, 0.999])
def test_a_file_that_is_cut_off_is_refused(vgg: Path, tmp_path: Path, zipped: bool, share: float) -> None:
    path = as_torchvision_writes_it(vgg, tmp_path / "vgg.pth", zipped=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: round(share * len(data))])
    with pytest.raises(CheckpointError, match=r"vgg\.pth does not hold"):
        Descriptor(path, ["relu1_1"])


# --- Its scale -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_calibration_brings_the_mean_activation_of_every_layer_to_one(vgg: Path) -> None:
    photographs = pictures(4)
    descriptor = Descriptor(vgg, ALL)
    assert any(abs(float(f.mean()) - 1) > 0.1 for f in descriptor(photographs).values())
    descriptor.calibrate(photographs)
    for name, features in descriptor(photographs).items():
        assert float(features.mean()) == pytest.approx(1, abs=1e-3), name


@torch.no_grad()
def test_calibration_divides_each_layer_by_one_number(vgg: Path) -> None:
    """It must not change what the network distinguishes, which biases that are divided wrongly would."""
    picture = pictures(1, seed=1)
    before = Descriptor(vgg, ALL)(picture)
    descriptor = Descriptor(vgg, ALL)
    descriptor.calibrate(pictures(4))
    for name, features in descriptor(picture).items():
        scale = features.mean() / before[name].mean()
        assert torch.allclose(features, scale * before[name], rtol=1e-3, atol=1e-3), name


@torch.no_grad()
def test_a_second_calibration_changes_nothing(vgg: Path) -> None:
    descriptor = Descriptor(vgg, SHALLOW.layers)
    descriptor.calibrate(pictures(4))
    before = descriptor(pictures(1, seed=1))
    descriptor.calibrate(pictures(4))
    for name, features in descriptor(pictures(1, seed=1)).items():
        assert torch.allclose(features, before[name], rtol=1e-4, atol=1e-5)


def rescaled(vgg: Path, target: Path) -> Path:
    """The same network with each layer's activations at another scale: W·c, and b times all factors so far."""
    tensors = safetensors.torch.load_file(vgg)
    draw = torch.Generator().manual_seed(0)
    so_far = 1.0
    for name in sorted((n for n in tensors if n.endswith("weight")), key=lambda n: int(n.split(".")[1])):
        factor = float(torch.rand(1, generator=draw)) * 5 + 0.1
        so_far *= factor
        tensors[name] = tensors[name] * factor
        tensors[name.replace("weight", "bias")] = tensors[name.replace("weight", "bias")] * so_far
    safetensors.torch.save_file(tensors, target)
    return target


@torch.no_grad()
def test_the_losses_do_not_depend_on_the_scale_of_the_descriptor(vgg: Path, tmp_path: Path) -> None:
    stylized, content, style = pictures(2, seed=1), pictures(2, seed=2), pictures(1, seed=3)[0]
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    for weights in (vgg, rescaled(vgg, tmp_path / "rescaled.safetensors")):
        descriptor = Descriptor(weights, CONFIG.layers)
        uncalibrated = descriptor(content)["relu3_1"]
        descriptor.calibrate(pictures(4))
        losses = PerceptualLoss(descriptor, CONFIG).with_styles([[style]])(stylized, content, torch.tensor([1, 1]))
        seen.append((uncalibrated, losses.content, losses.style))
    one, other = seen
    assert not torch.allclose(one[0], other[0], rtol=0.5)
    assert torch.allclose(one[1], other[1], rtol=1e-3)
    assert torch.allclose(one[2], other[2], rtol=1e-3)

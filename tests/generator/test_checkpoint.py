"""Checkpoints come back as they were written, and what is not one is refused; theirs become ours."""

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from contract.errors import CheckpointError
from contract.settings import ContractSettings
from generator.checkpoint import (
    CONTENT_ROW,
    FORMAT,
    FORMAT_VERSION,
    Checkpoint,
    content_row,
    import_pytorch_examples,
    of_generator,
    read,
    style_vector,
    trunk_of,
    vector_file,
    vector_of,
)
from generator.network import Architecture, Generator, GeneratorConfig, Norm
from generator.pixels import to_pixels, to_tensor
from tests.conftest import tiny_bank

# --- Our own files -------------------------------------------------------------------------------------------------


def header_of(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length]))


def rewritten(bank: Checkpoint, tensors: Mapping[str, Tensor | None], metadata: Mapping[str, str | None]) -> bytes:
    """The file of a bank with other tensors or metadata; None takes one out."""
    data = bank.to_bytes()
    new_tensors = safetensors.torch.load(data) | dict(tensors)
    new_metadata = header_of(data)["__metadata__"] | dict(metadata)
    return bytes(
        safetensors.torch.save(
            {name: tensor for name, tensor in new_tensors.items() if tensor is not None},
            metadata={name: text for name, text in new_metadata.items() if text is not None},
        )
    )


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("architecture", ["residual", "pyramid"])
def test_a_bank_comes_back_exactly_as_it_was_written(architecture: Architecture, norm: Norm) -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(architecture, norm, width=4))
    styles = torch.randn(2, generator.style_size)
    content = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        generator.train()(content, styles)  # batch norm's running averages are part of the trunk
        expected = generator.eval()(content, styles)

    bank = Checkpoint.from_bytes(of_generator(generator, ("wave", "night"), styles).to_bytes())

    assert bank.config == generator.config
    assert bank.names == ("wave", "night")
    assert torch.equal(bank.styles, styles)
    assert bank.trunk.keys() == generator.trunk.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(bank.generator()(content, bank.styles), expected)


def test_what_is_kept_of_a_generator_does_not_change_when_its_training_goes_on() -> None:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(width=4))
    styles = torch.ones(1, generator.style_size)
    bank = of_generator(generator, ("wave",), styles)
    written = bank.to_bytes()
    with torch.no_grad():
        styles.zero_()
        for weight in generator.parameters():
            weight.zero_()
    assert bank.to_bytes() == written


def test_a_bank_is_written_in_the_same_bytes_every_time() -> None:
    """Styles share the trunk whose file has the same hash; in any other they would neither blend nor batch."""
    bank = tiny_bank(CONTENT_ROW, "wave")
    assert len({trunk_of(bank) for _ in range(10)}) == 1
    assert len({vector_of(bank, "wave") for _ in range(10)}) == 1
    assert trunk_of(Checkpoint.from_bytes(bank.to_bytes())) == trunk_of(bank)


def test_the_trunk_that_ships_with_atelier_is_written_in_the_bytes_that_it_has() -> None:
    """It was written before generators had a padding, and every style names it by its hash."""
    files = [path for path in ContractSettings().builtin_styles.rglob("*") if path.suffix == ".safetensors"]
    trunks = [data for data in map(Path.read_bytes, files) if b"atelier-generator" in data[:100_000]]
    assert trunks
    for data in trunks:
        assert trunk_of(Checkpoint.from_bytes(data)) == data


def test_a_padding_other_than_the_usual_one_comes_back() -> None:
    generator = Generator(GeneratorConfig("pyramid", width=2, padding="circular"))
    bank = of_generator(generator, ("a",), generator.neutral_style()[None])
    assert Checkpoint.from_bytes(bank.to_bytes()).generator().config == generator.config


def test_a_checkpoint_says_what_it_is_to_every_reader_of_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    path.write_bytes(tiny_bank("wave", "night").to_bytes())
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        assert {name.split(".")[0] for name in file.keys()} == {"trunk", "styles"}  # noqa: SIM118 - not a dict
    assert metadata["format"] == FORMAT == "atelier-generator"
    assert metadata["format_version"] == str(FORMAT_VERSION) == "1"
    assert json.loads(metadata["config"]) == {"architecture": "residual", "norm": "instance", "width": 4}
    assert json.loads(metadata["styles"]) == ["wave", "night"]


def test_a_checkpoint_holds_tensors_and_its_header_and_no_pickle() -> None:
    data = tiny_bank("wave").to_bytes()
    header = header_of(data)
    tensor_bytes = max(tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__")
    assert len(data) == 8 + int.from_bytes(data[:8], "little") + tensor_bytes


def test_half_of_the_bytes_are_enough_for_nearly_the_same_picture() -> None:
    bank = tiny_bank("wave", width=8)
    halved = bank.half()
    assert len(halved.to_bytes()) < 0.6 * len(bank.to_bytes())
    assert torch.equal(halved.styles, bank.styles)
    content = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        kept = Checkpoint.from_bytes(halved.to_bytes()).generator()(content, bank.styles)
        difference = kept - bank.generator()(content, bank.styles)
    assert kept.dtype == torch.float32
    assert 0 < difference.abs().max() < 0.02


def test_half_leaves_the_running_statistics_of_batch_norm_whole() -> None:
    """A variance may be larger than float16 can say."""
    generator = Generator(GeneratorConfig(norm="batch", width=4))
    for name, buffer in generator.trunk.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(1e6)
    halved = of_generator(generator, ("wave",), generator.neutral_style()[None]).half()
    dtypes = {name.rsplit(".", 1)[-1]: tensor.dtype for name, tensor in halved.trunk.items()}
    assert dtypes == {
        "weight": torch.float16,
        "bias": torch.float16,
        "running_mean": torch.float32,
        "running_var": torch.float32,
        "num_batches_tracked": torch.int64,
    }
    halved.generator()


def test_a_generator_of_a_checkpoint_is_ready_for_use() -> None:
    assert not tiny_bank("wave").generator().training


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_bytes_that_are_no_checkpoint_are_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.from_bytes(data)


@settings(deadline=None, max_examples=50)
@given(st.floats(0, 1, exclude_max=True))
def test_a_checkpoint_that_is_cut_off_is_refused(part: float) -> None:
    data = tiny_bank("wave").to_bytes()
    with pytest.raises(CheckpointError):
        Checkpoint.from_bytes(data[: int(part * len(data))])


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b"[]",
        b'{"__metadata__": "wave"}',
        b'{"__metadata__": [1]}',
        b'{"__metadata__": {"format": "atelier-generator", "format_version": "1"}}',
    ],
)
def test_a_header_that_is_something_else_is_refused(header: bytes) -> None:
    with pytest.raises(CheckpointError):
        Checkpoint.from_bytes(struct.pack("<Q", len(header)) + header)


def test_a_safetensors_file_of_somebody_else_is_refused() -> None:
    with pytest.raises(CheckpointError, match="not a checkpoint of Atelier"):
        Checkpoint.from_bytes(safetensors.torch.save({"conv.weight": torch.zeros(1)}, metadata={"format": "pt"}))


def test_a_checkpoint_of_a_newer_format_is_refused_with_both_numbers() -> None:
    with pytest.raises(CheckpointError, match=r"format 2.*reads format 1"):
        Checkpoint.from_bytes(rewritten(tiny_bank("wave"), {}, {"format_version": "2"}))


@pytest.mark.parametrize(
    "metadata",
    [
        {"config": None},
        {"config": "{"},
        {"config": "[]"},
        {"config": '{"depth": 4}'},
        {"config": '{"width": 4.0}'},
        {"config": '{"width": 100000}'},
        {"config": '{"architecture": "transformer"}'},
        {"styles": None},
        {"styles": "null"},
        {"styles": '"ab"'},
        {"styles": '{"a": 1, "b": 2}'},
        {"styles": "[1, 2]"},
        {"styles": '["wave", "wave"]'},
    ],
)
def test_a_checkpoint_with_a_damaged_description_is_refused(metadata: dict[str, str | None]) -> None:
    with pytest.raises(CheckpointError, match="damaged"):
        Checkpoint.from_bytes(rewritten(tiny_bank("wave", "night"), {}, metadata))


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({"trunk.output.bias": None}, r"Missing key.*output\.bias"),
        ({"trunk.surplus": torch.zeros(1)}, "Unexpected key.*surplus"),
        ({"surplus": torch.zeros(1)}, "Unexpected key.*surplus"),
        ({"trunk.output.bias": torch.zeros(4)}, r"size mismatch for output\.bias"),
        ({"styles": torch.zeros(1, 406)}, "2 rows of style vectors"),
        ({"styles": torch.zeros(2, 405)}, "2 style vectors of 406 numbers"),
        ({"styles": torch.zeros(2 * 406)}, "2 rows of style vectors"),
        ({"styles": None}, "damaged.*styles"),
    ],
)
def test_weights_that_do_not_fit_the_description_are_refused_by_name(
    tensors: dict[str, Tensor | None], what: str
) -> None:
    with pytest.raises(CheckpointError, match=what):
        Checkpoint.from_bytes(rewritten(tiny_bank("wave", "night"), tensors, {})).generator()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_bank_cannot_be_made_with_more_or_fewer_vectors_than_names(count: int) -> None:
    bank = tiny_bank("wave", "night")
    with pytest.raises(CheckpointError, match="2 rows of style vectors"):
        replace(bank, styles=bank.styles[:1].repeat(count, 1))


def test_a_bank_is_read_from_a_file_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(tiny_bank("wave", "night").to_bytes())
    assert read(path, "").names == read(path, "night").names == ("wave", "night")


def test_a_bank_without_the_wanted_row_says_which_rows_it_has(tmp_path: Path) -> None:
    path = tmp_path / "bank.safetensors"
    path.write_bytes(tiny_bank("wave", "night").to_bytes())
    with pytest.raises(CheckpointError, match="no row 'sun'; it has wave, night"):
        read(path, "sun")


@pytest.mark.parametrize("beginning", [b"\x80", b"PK"])
def test_a_bank_whose_first_bytes_look_like_a_pickle_or_a_zip_is_read(tmp_path: Path, beginning: bytes) -> None:
    """They are the length of the header, which a safetensors file begins with."""
    data = tiny_bank("wave").to_bytes()
    length = int.from_bytes(data[:8], "little")
    wanted = int.from_bytes(beginning + data[len(beginning) : 2], "little")
    wanted += 0 if wanted >= length else 1 << 16
    padded = wanted.to_bytes(8, "little") + data[8 : 8 + length].ljust(wanted) + data[8 + length :]
    assert padded.startswith(beginning)
    path = tmp_path / "bank.safetensors"
    path.write_bytes(padded)
    assert read(path, "wave").names == ("wave",)


# --- A style by itself ---------------------------------------------------------------------------------------------


def test_a_trunk_and_a_vector_give_what_the_bank_gives() -> None:
    bank = tiny_bank(CONTENT_ROW, "wave", "night")
    trunk = Checkpoint.from_bytes(trunk_of(bank))
    vector = style_vector(vector_of(bank, "night"))
    content = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(trunk.generator()(content, vector[None]), bank.generator()(content, bank.styles[2:3]))


def test_a_trunk_keeps_the_row_that_reproduces_the_content_and_no_other() -> None:
    bank = tiny_bank(CONTENT_ROW, "wave", "night")
    trunk = Checkpoint.from_bytes(trunk_of(bank))
    assert trunk.names == (CONTENT_ROW,)
    assert torch.equal(trunk.styles, bank.styles[:1])


def test_a_trunk_without_such_a_row_has_none() -> None:
    trunk = Checkpoint.from_bytes(trunk_of(tiny_bank("wave", "night")))
    assert trunk.names == ()
    trunk.generator()


def test_the_row_that_reproduces_the_content_is_read_from_a_trunk() -> None:
    bank = tiny_bank(CONTENT_ROW, "wave", "night")
    row = content_row(trunk_of(bank))
    assert row is not None
    assert torch.equal(row, bank.styles[0])


@pytest.mark.parametrize("names", [("wave", "night"), ("wave", CONTENT_ROW)])
def test_a_trunk_without_such_a_row_has_none_to_read(names: tuple[str, ...]) -> None:
    assert content_row(trunk_of(tiny_bank(*names))) is None
    assert content_row(tiny_bank(*names).to_bytes()) is None


def test_what_is_no_trunk_has_no_row_to_read() -> None:
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        content_row(b"no trunk")


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("names", [(CONTENT_ROW, "wave"), ("wave",)])
def test_a_vector_fitted_to_a_trunk_is_a_style_of_that_very_trunk(names: tuple[str, ...], half: bool) -> None:
    """The file of the trunk, and so its hash, stays as it is: the new style blends with the older ones."""
    bank = tiny_bank(*names).half() if half else tiny_bank(*names)
    file = trunk_of(bank)
    trunk = Checkpoint.from_bytes(file)
    assert trunk_of(trunk) == file

    generator = trunk.generator()
    fitted = nn.Parameter(generator.neutral_style() + 0.1)
    assert torch.equal(style_vector(vector_file(fitted)), fitted.detach())
    grown = replace(trunk, names=(*trunk.names, "fitted"), styles=torch.cat([trunk.styles, fitted[None].detach()]))
    assert trunk_of(grown) == file
    assert vector_of(grown, "fitted") == vector_file(fitted)


@pytest.mark.parametrize("name", ["wave", "night"])
def test_a_style_vector_comes_back_exactly_as_it_was_written(name: str) -> None:
    bank = tiny_bank("wave", "night")
    vector = style_vector(vector_of(bank, name))
    assert torch.equal(vector, bank.styles[bank.names.index(name)])


def test_the_vector_of_a_row_that_is_not_there_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no row 'sun'; it has wave"):
        vector_of(tiny_bank("wave"), "sun")


@pytest.mark.parametrize("data", [b"", b"no style", safetensors.torch.save({"other": torch.zeros(1)})])
def test_a_file_without_a_style_vector_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="not the file of a style vector"):
        style_vector(data)


# --- Foreign checkpoints -------------------------------------------------------------------------------------------
#
# The network of pytorch/examples (fast_neural_style), written anew after its published description, with its names.


class ConvLayer(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, upsample: int = 1) -> None:
        super().__init__()
        self.upsample = upsample
        self.reflection_pad = nn.ReflectionPad2d(kernel // 2)
        self.conv2d = nn.Conv2d(channels_in, channels_out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        if self.upsample > 1:
            x = F.interpolate(x, mode="nearest", scale_factor=self.upsample)
        return torch.as_tensor(self.conv2d(self.reflection_pad(x)))


class TheirResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(channels, channels, 3)
        self.in1 = nn.InstanceNorm2d(channels, affine=True)
        self.conv2 = ConvLayer(channels, channels, 3)
        self.in2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.in2(self.conv2(F.relu(self.in1(self.conv1(x))))) + x)


class TransformerNet(nn.Module):
    """Pictures are 0..255 on both sides."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(3, width, 9)
        self.in1 = nn.InstanceNorm2d(width, affine=True)
        self.conv2 = ConvLayer(width, 2 * width, 3, stride=2)
        self.in2 = nn.InstanceNorm2d(2 * width, affine=True)
        self.conv3 = ConvLayer(2 * width, 4 * width, 3, stride=2)
        self.in3 = nn.InstanceNorm2d(4 * width, affine=True)
        self.res1 = TheirResidualBlock(4 * width)
        self.res2 = TheirResidualBlock(4 * width)
        self.res3 = TheirResidualBlock(4 * width)
        self.res4 = TheirResidualBlock(4 * width)
        self.res5 = TheirResidualBlock(4 * width)
        self.deconv1 = ConvLayer(4 * width, 2 * width, 3, upsample=2)
        self.in4 = nn.InstanceNorm2d(2 * width, affine=True)
        self.deconv2 = ConvLayer(2 * width, width, 3, upsample=2)
        self.in5 = nn.InstanceNorm2d(width, affine=True)
        self.deconv3 = ConvLayer(width, 3, 9)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.in1(self.conv1(x)))
        x = F.relu(self.in2(self.conv2(x)))
        x = F.relu(self.in3(self.conv3(x)))
        for block in (self.res1, self.res2, self.res3, self.res4, self.res5):
            x = block(x)
        x = F.relu(self.in4(self.deconv1(x)))
        x = F.relu(self.in5(self.deconv2(x)))
        return torch.as_tensor(self.deconv3(x))


def their_network(width: int = 4) -> TransformerNet:
    """With random norms, and an output that lies within 0..255 mostly."""
    torch.manual_seed(0)
    network = TransformerNet(width).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.InstanceNorm2d):
                module.weight.normal_(1, 0.3)
                module.bias.normal_(0, 0.3)
        output = network.deconv3.conv2d
        stylized = network(255 * torch.rand(1, 3, 64, 64))
        output.weight *= 50 / stylized.std()
        nn.init.constant_(torch.as_tensor(output.bias), 127)
    return network


@torch.no_grad()
def largest_pixel_difference(theirs: TransformerNet, ours: Checkpoint, content: Tensor) -> int:
    """Of the written pictures, 0..255; the content is [3,H,W] in 0..1."""
    their_pixels = theirs(255 * content[None])[0].clamp(0, 255).round().permute(1, 2, 0).numpy().astype(int)
    our_pixels = to_pixels(ours.generator()(content[None], ours.styles[:1])[0]).astype(int)
    assert their_pixels.std() > 10
    return int(np.abs(their_pixels - our_pixels).max())


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("width", [4, 6])
def test_a_generator_of_pytorch_examples_draws_the_same_picture(tmp_path: Path, width: int, zipped: bool) -> None:
    network = their_network(width)
    path = tmp_path / "wave.model"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=zipped)
    bank = read(path, "wave")
    assert bank.names == ("wave",)
    assert bank.config == GeneratorConfig("residual", "instance", width)
    assert largest_pixel_difference(network, bank, torch.rand(3, 48, 64)) <= 1


def test_an_imported_generator_sees_as_much_in_the_dark(tmp_path: Path) -> None:
    """ε is small beside the variance of 0..255, and would not be beside that of 0..1."""
    network = their_network()
    path = tmp_path / "wave.pth"
    torch.save(network.state_dict(), path)
    assert largest_pixel_difference(network, read(path, "wave"), 0.01 * torch.rand(3, 64, 64)) <= 1


def test_an_imported_generator_survives_our_own_format(tmp_path: Path) -> None:
    network = their_network()
    path = tmp_path / "wave.pth"
    torch.save(network.state_dict(), path)
    bank = Checkpoint.from_bytes(read(path, "wave").to_bytes())
    assert largest_pixel_difference(network, bank, torch.rand(3, 64, 64)) <= 1


def test_the_running_statistics_of_old_files_are_dropped(tmp_path: Path) -> None:
    network = their_network()
    state = dict(network.state_dict())
    for name in [name for name in state if ".in" in f".{name}" and name.endswith("weight")]:
        state[name.replace("weight", "running_mean")] = torch.full_like(state[name], 1e6)
        state[name.replace("weight", "running_var")] = torch.full_like(state[name], 1e6)
    path = tmp_path / "old.pth"
    torch.save(state, path)
    assert largest_pixel_difference(network, read(path, "old"), torch.rand(3, 64, 64)) <= 1


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_may_be_wrapped_as_trainers_wrap_them(tmp_path: Path, prefix: str) -> None:
    network = their_network()
    path = tmp_path / "wrapped.tar"
    torch.save({"epoch": 2, "state_dict": {prefix + name: t for name, t in network.state_dict().items()}}, path)
    assert largest_pixel_difference(network, read(path, "wave"), torch.rand(3, 64, 64)) <= 1


@pytest.mark.parametrize("file", ["mosaic.pth", "rain_princess_half_width.model"])
def test_published_generators_draw_what_they_drew_before(shared: Path, file: str) -> None:
    path = shared / "generators" / file
    state = torch.load(path, weights_only=True)
    network = TransformerNet(len(state["conv1.conv2d.bias"])).eval()
    network.load_state_dict({name: tensor for name, tensor in state.items() if "running_" not in name})
    with Image.open(shared / "content" / "heldout" / "01.png") as picture:
        content = to_tensor(np.array(picture.crop((0, 0, 160, 128)).convert("RGB")))
    assert largest_pixel_difference(network, read(path, "style"), content) <= 1


def test_a_foreign_file_must_be_given_a_name(tmp_path: Path) -> None:
    path = tmp_path / "wave.pth"
    torch.save(their_network().state_dict(), path)
    with pytest.raises(CheckpointError, match="name it"):
        read(path, "")


class Malice:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(tmp_path: Path, zipped: bool) -> None:
    path, folder = tmp_path / "wave.pth", tmp_path / "attacked"
    state: dict[str, Any] = {**their_network().state_dict(), "conv1.conv2d.weight": Malice(folder)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"wave\.pth cannot be read"):
        read(path, "wave")
    assert not folder.exists()
    torch.load(path, weights_only=False)
    assert folder.exists(), "the file is harmless, and the test proves nothing"


def altered(**changes: Tensor | None) -> dict[str, Tensor]:
    """Their state dict with other tensors, whose names have ``__`` for a dot; None takes one out."""
    state = {**their_network().state_dict(), **{name.replace("__", "."): t for name, t in changes.items()}}
    return {name: tensor for name, tensor in state.items() if tensor is not None}


@pytest.mark.parametrize(
    ("state", "what"),
    [
        ({"features.0.weight": torch.zeros(2, 3, 3, 3)}, r"conv1\.conv2d\.weight is missing"),
        ({}, r"conv1\.conv2d\.weight is missing"),
        (altered(res5__in2__bias=None), r"res5\.in2\.bias is missing"),
        (altered(deconv3__conv2d__bias=None), r"deconv3\.conv2d\.bias is missing"),
        (altered(res6__conv1__conv2d__bias=torch.zeros(16)), r"has no res6\.conv1\.conv2d\.bias"),
        (altered(conv1__conv2d__weight=torch.tensor(1.0)), "not a TransformerNet"),
        (altered(conv1__conv2d__weight=torch.zeros(300, 3, 9, 9)), "width is 1 to 256"),
        (altered(conv1__conv2d__weight=torch.zeros(8, 3, 9, 9)), "do not fit"),
        (altered(in1__weight=torch.zeros(5)), "style vectors of 406 numbers"),
        ([torch.zeros(1)], "not a state dict"),
        (torch.zeros(1), "not a state dict"),
        ({"epoch": 3}, "not a state dict"),
    ],
)
def test_a_file_of_another_network_is_refused_with_the_reason(tmp_path: Path, state: object, what: str) -> None:
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=what):
        import_pytorch_examples(path, "other")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_foreign_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"conv1.conv2d.weight": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    for length in range(2, len(data), max(1, len(data) // 150)):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            read(path, "cut")


def test_an_old_file_that_names_a_storage_it_does_not_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.pth"
    weight = torch.zeros(2)
    torch.save({"conv1.conv2d.weight": weight}, path, _use_new_zipfile_serialization=False)
    key = str(weight.untyped_storage()._cdata).encode()
    data = path.read_bytes()
    assert data.count(key) == 2, "once where it is used, and once in the list of what is there"
    path.write_bytes(data[::-1].replace(key[::-1], b"0" * len(key), 1)[::-1])
    with pytest.raises(CheckpointError):
        read(path, "damaged")

"""Checkpoints: a trunk and its style vectors in safetensors, with the configuration in the header, and no pickle.

Header: ``format`` = "atelier-generator", ``format_version`` = "1", ``config`` = the GeneratorConfig as JSON, ``styles``
= the names of the rows as JSON. Tensors: ``trunk.*`` is the state of the convolutions (and, with batch norm, its
running averages); ``styles`` is [N,S], one style vector a row.
"""

import json
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from contract.errors import CheckpointError
from generator.network import RESIDUAL_BLOCKS, Generator, GeneratorConfig

FORMAT = "atelier-generator"
FORMAT_VERSION = 1

CONTENT_ROW = "content"
"""The name of row 0 of a bank that was trained with one that reproduces the photograph."""

FOREIGN_PIXEL_RANGE = 255.0


@dataclass(frozen=True)
class Checkpoint:
    """A style bank: one trunk, and a row of γ, β for each of its styles."""

    config: GeneratorConfig
    trunk: dict[str, Tensor]
    names: tuple[str, ...]
    styles: Tensor  # N,S

    def __post_init__(self) -> None:
        if self.styles.ndim != 2 or len(self.styles) != len(self.names):
            raise CheckpointError(
                f"{len(self.names)} rows of style vectors were expected, and there is {tuple(self.styles.shape)}."
            )

    def generator(self) -> Generator:
        """The network in evaluation mode, float32, with this trunk's weights.

        Raises CheckpointError when weights are missing, left over, of another shape or no numbers.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in (*self.trunk.values(), self.styles)):
            raise CheckpointError("Some weights are not finite numbers: the training that made them diverged.")
        generator = Generator(self.config)
        try:
            generator.trunk.load_state_dict({name: tensor.float() for name, tensor in self.trunk.items()})
        except RuntimeError as error:
            raise CheckpointError(f"The weights do not fit {self.config}: {_first_line(error)}") from error
        if self.styles.shape != (len(self.names), generator.style_size):
            raise CheckpointError(
                f"{len(self.names)} style vectors of {generator.style_size} numbers were expected, "
                f"and the file holds {tuple(self.styles.shape)}."
            )
        return generator.eval()

    def half(self) -> "Checkpoint":
        """The same bank with its convolutions in float16: half the file.

        Style vectors stay in float32, and so do running averages, which may be larger than float16 can say.
        """
        kept = ("running_mean", "running_var", "num_batches_tracked")
        trunk = {name: t if name.endswith(kept) else t.half() for name, t in self.trunk.items()}
        return Checkpoint(self.config, trunk, self.names, self.styles)

    def to_bytes(self) -> bytes:
        """The same bytes for the same bank, whenever it is written: its styles share the trunk that has its hash."""
        tensors = {f"trunk.{name}": tensor.detach().cpu().contiguous() for name, tensor in self.trunk.items()}
        tensors["styles"] = self.styles.detach().float().cpu().contiguous()
        header = {
            "format": FORMAT,
            "format_version": str(FORMAT_VERSION),
            "config": json.dumps(self.config.described()),
            "styles": json.dumps(self.names),
        }
        return _with_metadata(safetensors.torch.save(tensors), header)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Raises CheckpointError for anything that is not a checkpoint of ours, of a version that we know."""
        header = _read_header(data)
        try:
            config = GeneratorConfig(**json.loads(header["config"]))
            names = _names(json.loads(header["styles"]))
            tensors = safetensors.torch.load(data)
            styles = tensors.pop("styles")
        except (KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
            raise CheckpointError(f"The checkpoint is damaged: {_first_line(error)}") from error
        trunk = {name.removeprefix("trunk."): tensor for name, tensor in tensors.items()}
        return cls(config, trunk, names, styles)


def of_generator(generator: Generator, names: tuple[str, ...], styles: Tensor) -> Checkpoint:
    """What is to be kept of a trained generator; the tensors are copies."""
    trunk = {name: tensor.detach().clone() for name, tensor in generator.trunk.state_dict().items()}
    return Checkpoint(generator.config, trunk, names, styles.detach().clone())


def _with_metadata(data: bytes, metadata: dict[str, str]) -> bytes:
    """A safetensors file with metadata, in a fixed order: safetensors itself writes them in a random one."""
    length = int.from_bytes(data[:8], "little")
    header = {"__metadata__": metadata} | json.loads(data[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _read_header(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: 8 bytes of length, then JSON, whose ``__metadata__`` is ours."""
    try:
        length = int.from_bytes(data[:8], "little")
        header = dict(json.loads(data[8 : 8 + length]).get("__metadata__") or {})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError("This is not a safetensors file.") from error
    if header.get("format") != FORMAT:
        raise CheckpointError("This safetensors file is not a checkpoint of Atelier: its header does not say so.")
    if header.get("format_version") != str(FORMAT_VERSION):
        raise CheckpointError(
            f"The checkpoint has format {header.get('format_version')}, and this version of Atelier reads format "
            f"{FORMAT_VERSION}: use a version that fits."
        )
    return {str(key): str(value) for key, value in header.items()}


def _names(names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("the names of the rows are not a list of names")
    if len(set(names)) < len(names):
        raise ValueError("two rows have the same name")
    return tuple(names)


def _first_line(error: BaseException) -> str:
    """What the error says, in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]


def read(path: Path, name: str) -> Checkpoint:
    """A checkpoint from a file: a bank of ours, or a foreign generator, whose style is then called ``name``.

    Raises CheckpointError when the file is neither, or has no row of that name, or a foreign one comes without a name.
    """
    data = path.read_bytes()
    if not _is_pytorch_file(data):
        bank = Checkpoint.from_bytes(data)
        if name and name not in bank.names:
            raise CheckpointError(f"The bank has no row {name!r}; it has {', '.join(bank.names)}.")
        bank.generator()  # raises when the weights do not fit
        return bank
    if not name:
        raise CheckpointError("A generator of pytorch/examples does not say what its style is called: name it.")
    return import_pytorch_examples(path, name)


def _is_pytorch_file(data: bytes) -> bool:
    """torch.save writes a zip, and before PyTorch 1.6 it wrote bare pickles.

    A safetensors file may begin with the same bytes, where they are the length of its header; but its ninth is a brace.
    """
    return data.startswith((b"PK", b"\x80")) and data[8:9] != b"{"


# --- Foreign checkpoints -------------------------------------------------------------------------------------------


def import_pytorch_examples(path: Path, name: str) -> Checkpoint:
    """A state dict of pytorch/examples' ``TransformerNet``, of any width, as a bank with one row.

    The two networks are the same but for their pixels: theirs are 0..255 on both sides and ours 0..1, so the first
    convolution is multiplied by 255 and the last one divided by it. Old files hold ``running_mean`` and
    ``running_var`` of instance norms, which never use them: they are dropped. Files of any suffix are read, with
    ``weights_only``, so that no code in them runs.

    Raises CheckpointError when the file is not such a state dict.
    """
    state = _load_state_dict(path)
    tensors = {key: value.float() for key, value in state.items() if not _is_running_statistic(key)}
    try:
        trunk, vector, width = _translate(tensors)
        config = GeneratorConfig("residual", "instance", width)
    except KeyError as error:
        raise CheckpointError(
            f"{path.name} is not a TransformerNet of pytorch/examples: {error.args[0]} is missing."
        ) from error
    except (ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path.name} is not a TransformerNet of pytorch/examples: {_first_line(error)}."
        ) from error
    checkpoint = Checkpoint(config, trunk, (name,), vector[None])
    checkpoint.generator()
    return checkpoint


def _load_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        OSError,
        AssertionError,  # a storage that is not there, in a file of before PyTorch 1.6
        struct.error,  # such a file, cut off
    ) as error:
        raise CheckpointError(f"{path.name} cannot be read as a PyTorch file: {_first_line(error)}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path.name} is a PyTorch file, but not a state dict.")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _is_running_statistic(key: str) -> bool:
    return key.endswith(("running_mean", "running_var", "num_batches_tracked"))


def _foreign_layers() -> list[tuple[str, str, str]]:
    """(their convolution, their norm, our layer), in the order in which the layers run."""
    encoder = [(f"conv{i + 1}.conv2d", f"in{i + 1}", f"layers.{i}") for i in range(3)]
    residual = [
        (f"res{block + 1}.conv{half}.conv2d", f"res{block + 1}.in{half}", f"layers.{3 + block}.{ours}")
        for block in range(RESIDUAL_BLOCKS)
        for half, ours in ((1, "first"), (2, "second"))
    ]
    decoder = [(f"deconv{i + 1}.conv2d", f"in{i + 4}", f"layers.{3 + RESIDUAL_BLOCKS + i}") for i in range(2)]
    return encoder + residual + decoder


def _translate(theirs: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, int]:
    """(trunk, style vector [S], width) of a foreign state dict.

    Raises KeyError with the name that is missing, and ValueError with those that are left over.
    """
    taken = [name for conv, norm, _ in _foreign_layers() for name in (conv, norm)] + ["deconv3.conv2d"]
    left_over = theirs.keys() - {f"{name}.{part}" for name in taken for part in ("weight", "bias")}
    trunk: dict[str, Tensor] = {}
    style: list[Tensor] = []
    for conv, norm, ours in _foreign_layers():
        trunk[f"{ours}.conv.weight"] = theirs[f"{conv}.weight"]
        trunk[f"{ours}.conv.bias"] = theirs[f"{conv}.bias"]
        style += [theirs[f"{norm}.weight"], theirs[f"{norm}.bias"]]
    trunk["layers.0.conv.weight"] = trunk["layers.0.conv.weight"] * FOREIGN_PIXEL_RANGE
    trunk["output.weight"] = theirs["deconv3.conv2d.weight"] / FOREIGN_PIXEL_RANGE
    trunk["output.bias"] = theirs["deconv3.conv2d.bias"] / FOREIGN_PIXEL_RANGE
    style += [torch.ones(3), torch.zeros(3)]
    if left_over:  # a deeper network of the same family would run, and be wrong
        raise ValueError(f"that has no {', '.join(sorted(left_over))}")
    return trunk, torch.cat([part.flatten() for part in style]), int(theirs["conv1.conv2d.weight"].shape[0])


# --- A style by itself ---------------------------------------------------------------------------------------------


def trunk_of(checkpoint: Checkpoint) -> bytes:
    """The file of a bank's convolutions: a checkpoint with no row but the one that reproduces the content."""
    kept = 1 if checkpoint.names[:1] == (CONTENT_ROW,) else 0
    return Checkpoint(checkpoint.config, checkpoint.trunk, checkpoint.names[:kept], checkpoint.styles[:kept]).to_bytes()


def content_row(trunk: bytes) -> Tensor | None:
    """The style vector [S] with which the trunk of such a file reproduces the content; None when it has none.

    Raises CheckpointError.
    """
    checkpoint = Checkpoint.from_bytes(trunk)
    return checkpoint.styles[0] if checkpoint.names[:1] == (CONTENT_ROW,) else None


def vector_of(checkpoint: Checkpoint, name: str) -> bytes:
    """The file of one row of a bank. Raises CheckpointError when there is no such row."""
    if name not in checkpoint.names:
        raise CheckpointError(f"The bank has no row {name!r}; it has {', '.join(checkpoint.names)}.")
    return vector_file(checkpoint.styles[checkpoint.names.index(name)])


def vector_file(style: Tensor) -> bytes:
    """The file of a style vector [S], of a bank or fitted to a trunk by itself: safetensors with ``style``."""
    style = style.detach().float().cpu().contiguous()
    return safetensors.torch.save({"style": style}, metadata={"format": "atelier-style"})


def style_vector(data: bytes) -> Tensor:
    """The style vector [S] of such a file. Raises CheckpointError."""
    try:
        style = safetensors.torch.load(data)["style"]
    except (KeyError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"This is not the file of a style vector: {_first_line(error)}") from error
    if style.ndim != 1:
        raise CheckpointError(f"A style vector is one row of numbers, and this file holds {tuple(style.shape)}.")
    return style

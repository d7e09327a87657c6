"""What runs one trunk: the PyTorch module as it is, or its graphs in an inference engine."""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import Tensor

from generator.network import Generator, to_multiple
from worker.graph import CONTENT, STYLE, norm_names
from worker.runtimes import Compiled, Runtime
from worker.steps import Step, normed, steps

Affine = tuple[Tensor, Tensor]
"""What a norm comes to once its statistics are known: scale and shift of each channel, [C] both, on the CPU."""
Sweep = Callable[[Tensor, Mapping[int, Affine]], Tensor]
"""(input [1,C,H,W] whose channels are last in memory, affines by step) → the raw output of its last convolution, of the
network's ``sweep_dtype``, on the CPU, in any layout."""

COMPILATIONS = 256
PREPARED_WEIGHTS = 8
"""How much memory an inference engine takes, in weights: Winograd's algorithm keeps 64 numbers for each 3×3 kernel."""


class Network(Protocol):
    """One trunk, ready to run. Called from one thread only."""

    @property
    def nbytes(self) -> int: ...
    @property
    def generator(self) -> Generator: ...
    @property
    def engine(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def sweep_dtype(self) -> torch.dtype:
        """That of the maps that sweeps give. They take them in that, in float16 or in float32."""
        ...

    def stylize(self, content: Tensor, style: Tensor) -> Tensor:
        """[B,3,H,W] and [B,S], both on the CPU → [B,3,H,W] as ``Generator.forward``."""
        ...

    def sweep(self, first: int, last: int, *, leading: bool) -> Sweep:
        """Convolutions ``first`` to ``last`` of ``worker.steps``, whose norms are given; ``worker.graph.sweep``."""
        ...


class TorchNetwork:
    """PyTorch, on the CPU or on CUDA; where ``dtype`` is a half-precision type, convolutions are computed in it."""

    def __init__(self, generator: Generator, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.generator = generator.to(device)
        if dtype is not torch.float32:
            self.generator = self.generator.to(memory_format=torch.channels_last)
        self._device = device
        self._dtype = dtype

    @property
    def nbytes(self) -> int:
        return _nbytes(self.generator)

    @property
    def engine(self) -> str:
        return "torch"

    @property
    def precision(self) -> str:
        return str(self._dtype).removeprefix("torch.")

    @property
    def sweep_dtype(self) -> torch.dtype:
        return torch.float32

    def stylize(self, content: Tensor, style: Tensor) -> Tensor:
        with torch.inference_mode(), self._precision():
            stylized: Tensor = self.generator(self._moved(content), style.to(self._device))
            return stylized.float()

    def sweep(self, first: int, last: int, *, leading: bool) -> Sweep:
        chain = steps(self.generator)
        applied = normed(chain, first, last, leading=leading)

        def run(x: Tensor, affines: Mapping[int, Affine]) -> Tensor:
            with torch.inference_mode(), self._precision():
                x = self._moved(x).float()
                for index in range(first - leading, last + 1):
                    x = _convolved(x, chain[index]) if index >= first else x
                    x = _applied(x, chain[index], affines[index]) if index in applied else x
                return x.float().cpu()

        return run

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not torch.float32)

    def _moved(self, x: Tensor) -> Tensor:
        """From pinned memory a copy to the GPU does not wait."""
        if self._device.type == "cuda":
            x = x.pin_memory().to(self._device, non_blocking=True)
        return x if self._dtype is torch.float32 else x.contiguous(memory_format=torch.channels_last)


class CompiledNetwork(TorchNetwork):
    """PyTorch's own compiler, Inductor: fused kernels, for every size. On CUDA they are recorded for each size that
    comes, so that a pass is one launch (CUDA graphs).

    It compiles when a kind of input comes first: a square, another picture, several at once; that pass takes as long as
    the compiler does, which keeps what it has made in a folder of its own. Sweeps for tiles run as they are. Not run on
    CUDA yet.
    """

    def __init__(self, generator: Generator, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(generator, device, dtype)
        # Counted over all networks; with the default of 8 the third or fourth would be run uncompiled without a word.
        torch._dynamo.config.recompile_limit = max(COMPILATIONS, torch._dynamo.config.recompile_limit)
        mode = "reduce-overhead" if device.type == "cuda" else "default"
        self._compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(self.generator, dynamic=True, mode=mode)

    @property
    def engine(self) -> str:
        return "inductor"

    def stylize(self, content: Tensor, style: Tensor) -> Tensor:
        height, width = content.shape[-2:]
        padded = to_multiple(content, self.generator.trunk.side_multiple)  # or sides of another rest were another graph
        with torch.inference_mode(), self._precision():
            stylized = self._compiled(self._moved(padded), style.to(self._device))
            return stylized.float()[:, :, :height, :width].clone()  # a recorded pass writes its next picture there


class GraphNetwork:
    """Graphs of the same network in an inference engine.

    What is compiled keeps the memory of its feature maps. The whole is compiled when it is run first, and given up when
    a large picture is begun, whose maps need the room; a sweep is gone when it is over. To compile the whole anew takes
    milliseconds where the engine has it in its cache.
    """

    def __init__(self, generator: Generator, runtime: Runtime) -> None:
        self.generator = generator
        self._runtime = runtime
        self._whole: Compiled | None = None

    @property
    def nbytes(self) -> int:
        return PREPARED_WEIGHTS * _nbytes(self.generator)

    @property
    def engine(self) -> str:
        return self._runtime.name

    @property
    def precision(self) -> str:
        return self._runtime.precision

    @property
    def sweep_dtype(self) -> torch.dtype:
        return self._runtime.sweep_dtype

    def stylize(self, content: Tensor, style: Tensor) -> Tensor:
        if self._whole is None:
            self._whole = self._runtime.whole(self.generator)
        height, width = content.shape[-2:]
        padded = to_multiple(content, self.generator.trunk.side_multiple)
        stylized = self._whole({CONTENT: padded, STYLE: style})
        return stylized[:, :, :height, :width].clone()

    def sweep(self, first: int, last: int, *, leading: bool) -> Sweep:
        self._whole = None
        applied = normed(steps(self.generator), first, last, leading=leading)
        compiled = self._runtime.sweep(self.generator, first, last, leading=leading)

        def run(x: Tensor, affines: Mapping[int, Affine]) -> Tensor:
            inputs = {CONTENT: x.permute(0, 2, 3, 1) if self._runtime.channels_last else _planes(x)}
            for index in applied:
                for name, part in zip(norm_names(index), affines[index], strict=True):
                    inputs[name] = part.float().reshape(1, -1, 1, 1)
            output = compiled(inputs)
            return output.permute(0, 3, 1, 2) if self._runtime.channels_last else output

        return run


def _planes(x: Tensor) -> Tensor:
    """[1,C,H,W], channels last, in the layout with channels first; as a matrix it turns faster."""
    _, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).reshape(-1, channels).t().contiguous().view(1, channels, height, width)


def _nbytes(generator: Generator) -> int:
    return sum(int(tensor.nbytes) for tensor in generator.state_dict().values())


def _convolved(x: Tensor, step: Step) -> Tensor:
    if step.upsample:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    convolution: Callable[[Tensor], Tensor] = step.convolution  # reflects at the borders by itself
    return convolution(x)


def _applied(x: Tensor, step: Step, affine: Affine) -> Tensor:
    scale, shift = (part.to(x)[:, None, None] for part in affine)
    x = torch.addcmul(shift, x, scale)
    return F.relu(x) if step.activation else x

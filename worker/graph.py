"""Residual generators as ONNX graphs, for inference engines that are faster on a CPU than PyTorch.

The graphs compute what ``generator.network`` defines, rewritten where that is cheaper and equal up to rounding: the
9×9 convolution to three channels is a 1×9 convolution to 27, whose rows are then shifted and summed, because three
output channels leave most of a vector register empty. Weights are constants and the style is an input, so that one
graph serves every style of a trunk, every size and every batch. ``worker.direct`` writes it for engines that know
no algorithm of Winograd's.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from generator.instance_norm import NORM_EPSILON
from generator.network import Generator
from worker.steps import Step, normed, steps

OPSET = 17
IR_VERSION = 9
LAST = 2**31 - 1
"""The end of an axis, for Slice."""

CONTENT, STYLE, STYLIZED = "content", "style", "stylized"
Array = npt.NDArray[np.generic]


class Graph:
    """A graph under construction: every method adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, values: Array) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def nodes(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        names = [f"{operator}_{len(self._nodes)}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(operator, list(inputs), names, names[0], **attributes))
        return names

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.nodes(operator, *inputs, outputs=1, **attributes)[0]

    def convolution(self, x: str, weight: torch.Tensor, bias: torch.Tensor | None = None, stride: int = 1) -> str:
        constants = [self.constant(array(weight))] + ([] if bias is None else [self.constant(array(bias))])
        return self.add("Conv", x, *constants, kernel_shape=list(weight.shape[2:]), strides=[stride, stride])

    def padded(self, x: str, pixels: int, mode: str = "reflect", *, channels_last: bool = False) -> str:
        """Padding of height and width: mirrored, or with the last values repeated (``edge``)."""
        sides = np.array(([0, pixels, pixels, 0] if channels_last else [0, 0, pixels, pixels]) * 2, np.int64)
        return self.add("Pad", x, self.constant(sides), mode=mode)

    def interleaved(self, x: str, side: int) -> str:
        """[B,side·side·C,H,W] → [B,C,side·H,side·W]: the channels become blocks of pixels, row by row."""
        return self.add("DepthToSpace", x, blocksize=side, mode="DCR")

    def cropped(self, x: str, pixels: int) -> str:
        """Without so many pixels at each side."""
        starts, ends, axes = (self.constant(np.array(pair, np.int64)) for pair in ([pixels] * 2, [-pixels] * 2, [2, 3]))
        return self.add("Slice", x, starts, ends, axes)

    def doubled(self, x: str) -> str:
        """Nearest upsampling ×2 of height and width."""
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        return self.add("Resize", x, "", scales, **how)

    def cut(self, x: str, **parts: tuple[int, int]) -> str:
        """A part of ``channels`` and of ``rows``, each from the first to before the last index."""
        axes = [{"channels": 1, "rows": 2}[name] for name in parts]
        starts, ends = zip(*parts.values(), strict=True)
        return self.add("Slice", x, *(self.constant(np.array(values, np.int64)) for values in (starts, ends, axes)))

    def scaled(self, x: str, scale: str, shift: str) -> str:
        return self.add("Add", self.add("Mul", x, scale), shift)

    def laid_out(self, x: str, channels: int) -> str:
        """The same values [B,C,1,1] in the memory layout of a convolution's output.

        OpenVINO would bring a whole feature map into the layout of the scale and the shift that it meets, which took a
        fifth of the time. These come out of a convolution with ones here, and meet it in its own.
        """
        ones = self.constant(np.ones((channels, 1, 1, 1), np.float32))
        return self.add("Conv", x, ones, kernel_shape=[1, 1], group=channels)

    def normalised(self, x: str, channels: int) -> str:
        """Instance norm; ONNX wants a scale and a shift, and those of the style come after."""
        ones, zeros = self.constant(np.ones(channels, np.float32)), self.constant(np.zeros(channels, np.float32))
        return self.add("InstanceNormalization", x, ones, zeros, epsilon=NORM_EPSILON)

    def style_parts(self, generator: Generator) -> Iterator[str]:
        """γ and β [B,C,1,1] of one layer after the other, from the style vector."""
        sizes = np.array([size // 2 for size in generator.style_sizes for _ in range(2)], np.int64)
        parts = self.nodes("Split", STYLE, self.constant(sizes), outputs=len(sizes), axis=1)
        spread = self.constant(np.array([2, 3], np.int64))
        return iter([self.add("Unsqueeze", part, spread) for part in parts])

    def whole_model(self, generator: Generator, stylized: str) -> bytes:
        """The serialized model ``content`` [B,3,H,W], ``style`` [B,S] → ``stylized`` [B,3,H,W]."""
        return self.model({CONTENT: ["batch", 3, "height", "width"], STYLE: ["batch", generator.style_size]}, stylized)

    def model(self, inputs: dict[str, list[int | str]], output: str) -> bytes:
        """The serialized model. Unknown dimensions are named."""
        described = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in inputs.items()]
        result = helper.make_tensor_value_info(STYLIZED, TensorProto.FLOAT, ["batch", "channels", "height", "width"])
        self._nodes.append(helper.make_node("Identity", [output], [STYLIZED], "result"))
        graph = helper.make_graph(self._nodes, "generator", described, [result], self._constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
        return bytes(model.SerializeToString())


def whole(generator: Generator) -> bytes:
    """``content`` [B,3,H,W] and ``style`` [B,S] → ``stylized`` [B,3,H,W]; H and W are multiples of 4."""
    graph = Graph()
    style = graph.style_parts(generator)
    x = block = CONTENT
    for step in steps(generator):
        if step.opens_block:
            block = x
        x = _convolved(graph, x, step)
        if not step.is_output:
            x = graph.normalised(x, step.convolution.out_channels)
        x = graph.scaled(x, next(style), next(style))
        if step.activation:
            x = graph.add("Relu", x)
        if step.closes_block:
            x = graph.add("Add", block, x)
    return graph.whole_model(generator, x)


def sweep(generator: Generator, first: int, last: int, *, leading: bool) -> bytes:
    """Convolutions ``first`` to ``last`` of ``steps``, with what is between them; no statistics are taken.

    ``content`` is the input of the first one [B,C,H,W] or, with ``leading``, the raw output of the one before it.
    ``scale_i`` and ``shift_i`` [1,C,1,1] are what the norm of step i comes to, for each that is applied
    (``worker.steps.normed``). The output is that of the last convolution.
    """
    graph = Graph()
    chain = steps(generator)
    applied = normed(chain, first, last, leading=leading)
    x = CONTENT
    for index in range(first - leading, last + 1):
        step = chain[index]
        if index >= first:
            x = _convolved(graph, x, step)
        if index in applied:
            x = graph.scaled(x, *(graph.laid_out(name, step.convolution.out_channels) for name in norm_names(index)))
            x = graph.add("Relu", x) if step.activation else x
    shape: list[int | str] = ["batch", chain[first].convolution.in_channels, "height", "width"]
    return graph.model({CONTENT: shape} | norm_inputs(generator, first, last, leading=leading), x)


def norm_inputs(generator: Generator, first: int, last: int, *, leading: bool) -> dict[str, list[int | str]]:
    """The inputs of a sweep that are not its map, and their shapes."""
    chain = steps(generator)
    applied = normed(chain, first, last, leading=leading)
    return {name: [1, chain[index].convolution.out_channels, 1, 1] for index in applied for name in norm_names(index)}


def norm_names(index: int) -> tuple[str, str]:
    """The inputs of a sweep that hold the scale and the shift of step ``index``."""
    return f"scale_{index}", f"shift_{index}"


def _convolved(graph: Graph, x: str, step: Step) -> str:
    convolution = step.convolution
    x = graph.padded(graph.doubled(x) if step.upsample else x, step.padding)
    if step.is_output:
        return _few_channels(graph, x, convolution)
    return graph.convolution(x, convolution.weight, convolution.bias, step.stride)


def _few_channels(graph: Graph, x: str, convolution: nn.Conv2d) -> str:
    """A k×k convolution to few channels: 1×k to k times as many, then row r of the kernel moved up by r and summed."""
    outputs, inputs, rows, columns = convolution.weight.shape
    weight = convolution.weight.permute(2, 0, 1, 3).reshape(rows * outputs, inputs, 1, columns)
    maps = graph.convolution(x, weight)
    moved = [
        graph.cut(
            maps,
            channels=(row * outputs, (row + 1) * outputs),
            rows=(row, row - rows + 1 if row < rows - 1 else LAST),
        )
        for row in range(rows)
    ]
    total = moved[0]
    for part in moved[1:]:
        total = graph.add("Add", total, part)
    assert convolution.bias is not None
    return graph.add("Add", total, graph.constant(array(convolution.bias).reshape(1, outputs, 1, 1)))


def array(tensor: torch.Tensor) -> Array:
    values: Array = tensor.detach().float().cpu().numpy()
    return values

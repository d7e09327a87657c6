"""Inference engines for ONNX graphs on the CPU: MNN and OpenVINO.

MNN computes 3×3 convolutions by Winograd's algorithm (Lavin, Gray 2016, arXiv 1509.09308), which needs a quarter of the
multiplications. OpenVINO is the fastest where the processor multiplies bfloat16, and it multiplies int8.
"""

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from generator.network import Generator
from worker.direct import direct, direct_sweep
from worker.graph import CONTENT, STYLE, STYLIZED, norm_inputs, sweep, whole
from worker.kept import Kept

PREPARED = 300
"""How many layers OpenVINO keeps prepared for sizes that it has seen: those of a few. By default it is 5,000, and a
worker that gets pictures of all sizes grew by 130 MB with each thousand of them."""
Compiled = Callable[[Mapping[str, Tensor]], Tensor]
"""The inputs of a graph by name → its output, which lasts until the next call. For one thread only."""


class Runtime(Protocol):
    name: str
    precision: str
    channels_last: bool
    """Whether the maps that a sweep takes and gives are [B,H,W,C]; else they are [B,C,H,W]."""
    sweep_dtype: torch.dtype
    """That of the maps that a sweep gives: what it computes in. It takes them in that, in float16 or in float32."""

    def whole(self, generator: Generator) -> Compiled:
        """The generator, of ``content`` and ``style``, in the way that suits this engine best."""
        ...

    def sweep(self, generator: Generator, first: int, last: int, *, leading: bool) -> Compiled:
        """A part of it whose norms are given (``worker.graph.sweep``), in the way that suits this engine best. Its
        outputs are the caller's, and stay as they are.
        """
        ...


def threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class MnnRuntime:
    """MNN (Alibaba) in float32."""

    name = "mnn"
    precision = "float32"
    channels_last = False
    sweep_dtype = torch.float32

    def __init__(self, kept: Kept) -> None:
        with _quiet():
            import MNN
            import MNN.expr
            import MNN.nn
        self._mnn = MNN
        self._kept = kept

    def whole(self, generator: Generator) -> Compiled:
        return self._compiled(whole(generator), [CONTENT, STYLE])

    def sweep(self, generator: Generator, first: int, last: int, *, leading: bool) -> Compiled:
        inputs = [CONTENT, *norm_inputs(generator, first, last, leading=leading)]
        compiled = self._compiled(sweep(generator, first, last, leading=leading), inputs)
        return lambda values: compiled(values).clone()

    def _compiled(self, model: bytes, inputs: list[str]) -> Compiled:
        expr = self._mnn.expr
        with _quiet():  # a manager of its own, so that its memory goes with it
            configuration = {"backend": "CPU", "numThread": threads(), "precision": "high"}
            manager = self._mnn.nn.create_runtime_manager((configuration,))
        with self._converted(model) as path:
            module = self._mnn.nn.load_module_from_file(str(path), inputs, [STYLIZED], runtime_manager=manager)
        kept: list[object] = []  # the variable that owns the memory of the last output

        def run(values: Mapping[str, Tensor]) -> Tensor:
            outputs = module.forward([self._variable(values[name]) for name in inputs])
            if not outputs:
                raise MemoryError("MNN could not run the network")
            kept[:] = [expr.convert(outputs[0], expr.NCHW)]
            return torch.from_numpy(kept[0].read())  # type: ignore[attr-defined]

        return run

    def _variable(self, values: Tensor) -> object:
        expr = self._mnn.expr
        variable = expr.placeholder(list(values.shape), expr.NCHW)
        variable.write(np.ascontiguousarray(values.float().numpy()))
        return variable

    @contextmanager
    def _converted(self, model: bytes) -> Iterator[Path]:
        """The graph in MNN's own format, from the cache where it is known."""
        name = f"{hashlib.sha256(model + version('MNN').encode()).hexdigest()}.mnn"
        if kept := self._kept.find(name):
            yield kept
            return
        with tempfile.TemporaryDirectory() as folder:
            target = self._convert(model, Path(folder))
            self._kept.keep(name, target.read_bytes())
            yield target

    def _convert(self, model: bytes, folder: Path) -> Path:
        with _quiet():
            import _tools  # MNN's converter; MNN.tools.mnnconvert around it would send telemetry

            source, target = folder / "model.onnx", folder / "model.mnn"
            source.write_bytes(model)
            files = ["--modelFile", str(source), "--MNNModel", str(target)]
            _tools.mnnconvert(["mnnconvert", "-f", "ONNX", *files, "--bizCode", "atelier"])
        return target


class OpenVinoRuntime:
    """OpenVINO (Intel) in bfloat16 where the processor has it, in float32, or in int8.

    In int8, what is not a convolution is computed in bfloat16 where the processor has it, and sweeps in float32: there
    are processors that have bfloat16 and are slower with it.
    """

    name = "openvino"
    channels_last = True

    def __init__(self, kept: Kept, precision: str = "") -> None:
        import openvino

        self._openvino = openvino
        self._core = openvino.Core()
        self.has_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = precision or ("bfloat16" if self.has_bfloat16 else "float32")
        self.sweep_dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        self._kept = kept

    def whole(self, generator: Generator) -> Compiled:
        quantised = self.precision == "int8"
        model = self._core.read_model(direct(generator, quantised=quantised), b"")
        compiled = self._kept_or_not(model, self._configuration(half=quantised and self.has_bfloat16))
        request = compiled.create_infer_request()

        def run(values: Mapping[str, Tensor]) -> Tensor:
            request.infer({name: values[name].numpy() for name in (CONTENT, STYLE)}, share_outputs=True)
            return torch.from_numpy(request.get_output_tensor(0).data)

        return run

    def sweep(self, generator: Generator, first: int, last: int, *, leading: bool) -> Compiled:
        """Compiled for the size and type of the first input, and anew for another: the tiles of a picture have one
        size, and where sizes are known, what goes in and out need not be laid out anew. It is not kept for the next
        picture.
        """
        graph = direct_sweep(generator, first, last, leading=leading)
        inputs = [CONTENT, *norm_inputs(generator, first, last, leading=leading)]
        prepared: tuple[torch.Size, torch.dtype] | None = None
        request: Any = None

        def run(values: Mapping[str, Tensor]) -> Tensor:
            nonlocal prepared, request
            content = values[CONTENT]
            if (content.shape, content.dtype) != prepared:
                prepared = content.shape, content.dtype
                model = self._of_one_kind(graph, content)
                request = self._core.compile_model(model, "CPU", self._configuration()).create_infer_request()
            output = torch.empty(tuple(request.model_outputs[0].shape), dtype=self.sweep_dtype)
            request.set_output_tensor(self._tensor(output))
            request.infer({name: self._tensor(values[name]) for name in inputs}, share_outputs=True)
            return output

        return run

    def _of_one_kind(self, graph: bytes, content: Tensor) -> Any:
        """A sweep for inputs of this size and type."""
        model = self._core.read_model(graph, b"")
        model.reshape({CONTENT: list(content.shape)})
        types = self._openvino.preprocess.PrePostProcessor(model)
        types.input(CONTENT).tensor().set_element_type(self._type(content.dtype))
        types.output().tensor().set_element_type(self._type(self.sweep_dtype))
        return types.build()

    def _type(self, dtype: torch.dtype) -> Any:
        kinds = self._openvino.Type
        return {torch.float32: kinds.f32, torch.float16: kinds.f16, torch.bfloat16: kinds.bf16}[dtype]

    def _tensor(self, values: Tensor) -> Any:
        """The same memory as OpenVINO has it; the values must have no gaps."""
        if values.dtype is not torch.bfloat16:
            return self._openvino.Tensor(values.numpy(), shared_memory=True)
        shape = self._openvino.Shape(values.shape)
        return self._openvino.Tensor(values.view(torch.int16).numpy(), shape, self._openvino.Type.bf16)

    def _configuration(self, *, half: bool = False) -> dict[str, Any]:
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads(),
            "INFERENCE_PRECISION_HINT": "bf16" if half or self.precision == "bfloat16" else "f32",
            "CPU_RUNTIME_CACHE_CAPACITY": PREPARED,
        }

    def _kept_or_not(self, graph: Any, configuration: dict[str, Any]) -> Any:
        """Compiled, and kept if that can be."""
        if self._kept.folder:
            try:
                return self._core.compile_model(graph, "CPU", configuration | {"CACHE_DIR": str(self._kept.folder)})
            except RuntimeError as error:  # whether for the folder's sake, it does not say
                self._kept.give_up(error)
            finally:
                self._kept.trim()
        return self._core.compile_model(graph, "CPU", configuration)


@contextmanager
def _quiet() -> Iterator[None]:
    """What C++ libraries print to standard output goes nowhere."""
    sys.stdout.flush()
    saved = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)

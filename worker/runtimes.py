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
import numpy.typing as npt

from generator.network import Generator
from worker.direct import direct, direct_sweep
from worker.graph import CONTENT, STYLE, STYLIZED, sweep, sweep_inputs, whole
from worker.kept import Kept

PREPARED = 300
"""How many layers OpenVINO keeps prepared for sizes that it has seen: those of a few. By default it is 5,000, and a
worker that gets pictures of all sizes grew by 130 MB with each thousand of them."""
Array = npt.NDArray[np.float32]
Compiled = Callable[[Mapping[str, Array]], Array]
"""The inputs of a graph by name → its output, which lasts until the next call. For one thread only."""


class Runtime(Protocol):
    name: str
    precision: str
    channels_last: bool
    """Whether the maps that a sweep takes and gives are [B,H,W,C]; else they are [B,C,H,W]."""

    def whole(self, generator: Generator) -> Compiled:
        """The generator, of ``content`` and ``style``, in the way that suits this engine best."""
        ...

    def sweep(self, generator: Generator, first: int, last: int, *, leading: bool) -> Compiled:
        """A part of it whose norms are given (``worker.graph.sweep``), in the way that suits this engine best."""
        ...


def threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class MnnRuntime:
    """MNN (Alibaba) in float32."""

    name = "mnn"
    precision = "float32"
    channels_last = False

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
        inputs = sweep_inputs(generator, first, last, leading=leading)
        return self._compiled(sweep(generator, first, last, leading=leading), inputs)

    def _compiled(self, model: bytes, inputs: list[str]) -> Compiled:
        expr = self._mnn.expr
        with _quiet():  # a manager of its own, so that its memory goes with it
            configuration = {"backend": "CPU", "numThread": threads(), "precision": "high"}
            manager = self._mnn.nn.create_runtime_manager((configuration,))
        with self._converted(model) as path:
            module = self._mnn.nn.load_module_from_file(str(path), inputs, [STYLIZED], runtime_manager=manager)
        kept: list[object] = []  # the variable that owns the memory of the last output

        def run(values: Mapping[str, Array]) -> Array:
            outputs = module.forward([self._variable(values[name]) for name in inputs])
            if not outputs:
                raise MemoryError("MNN could not run the network")
            kept[:] = [expr.convert(outputs[0], expr.NCHW)]
            result: Array = kept[0].read()  # type: ignore[attr-defined]
            return result

        return run

    def _variable(self, values: Array) -> object:
        expr = self._mnn.expr
        variable = expr.placeholder(list(values.shape), expr.NCHW)
        variable.write(np.ascontiguousarray(values))
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

        self._core = openvino.Core()
        self.has_bfloat16 = "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = precision or ("bfloat16" if self.has_bfloat16 else "float32")
        self._kept = kept

    def whole(self, generator: Generator) -> Compiled:
        quantised = self.precision == "int8"
        model = self._core.read_model(direct(generator, quantised=quantised), b"")
        compiled = self._kept_or_not(model, self._configuration(half=quantised and self.has_bfloat16))
        request = compiled.create_infer_request()
        return lambda values: _inferred(request, values, [CONTENT, STYLE])

    def sweep(self, generator: Generator, first: int, last: int, *, leading: bool) -> Compiled:
        """Compiled for the size of the first input, and anew for another: the tiles of a picture have one size, and
        where sizes are known, what goes in and out need not be laid out anew. It is not kept for the next picture.
        """
        model = self._core.read_model(direct_sweep(generator, first, last, leading=leading), b"")
        inputs = sweep_inputs(generator, first, last, leading=leading)
        prepared: tuple[int, ...] = ()
        request: Any = None

        def run(values: Mapping[str, Array]) -> Array:
            nonlocal prepared, request
            if values[CONTENT].shape != prepared:
                prepared = values[CONTENT].shape
                model.reshape({CONTENT: list(prepared)})
                request = self._core.compile_model(model, "CPU", self._configuration()).create_infer_request()
            return _inferred(request, values, inputs)

        return run

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


def _inferred(request: Any, values: Mapping[str, Array], inputs: list[str]) -> Array:
    request.infer({name: values[name] for name in inputs})
    result: Array = request.get_output_tensor(0).data
    return result


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

"""What the worker reads from its environment (prefix ``ATELIER_``)."""

from pathlib import Path

from pydantic import Field

from contract.settings import ContractSettings


class WorkerSettings(ContractSettings):
    device: str = ""
    """``cpu`` or ``cuda`` (``cuda:1`` …); default: CUDA where there is one."""
    engine: str = ""
    """``torch``, ``inductor``, ``mnn`` or ``openvino``; default: the fastest, by measurement; on CUDA ``torch``."""
    precision: str = ""
    """``float32``, ``bfloat16``, ``float16`` or ``int8``; default: the fastest that is exact, which int8 is not."""
    concurrency: int = Field(default=4, ge=1)
    """Jobs that are decoded, encoded or waited for at once; the engine takes them in batches. Large pictures have one
    fewer, so that small ones need not wait for them."""
    batch_megapixels: float = Field(default=1.0, gt=0)
    """How many megapixels go through the generator at once; one picture alone may be larger."""
    tile_above_megapixels: float = Field(default=2.0, gt=0)
    """Larger pictures are stylized in tiles, in bounded memory; the result is the same."""
    scratch: Path | None = None
    """The folder for the maps of large pictures, 48 bytes for each pixel. Default: in the data folder."""
    trunk_cache_megabytes: int = Field(default=512, ge=1)
    """Memory for generators; those that were used longest ago leave first."""
    max_upload_megapixels: float = Field(default=50.0, gt=0)
    """The largest picture that is decoded: the same limit as the gateway's."""
    metrics_host: str = "127.0.0.1"
    """The address on which Prometheus finds the figures of this process."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Their port; 0 is none."""

    @property
    def scratch_folder(self) -> Path:
        return self.scratch or self.data.resolve() / "scratch"

    @property
    def engine_cache(self) -> Path:
        """Where engines keep compiled networks."""
        return self.data.resolve() / "engine"

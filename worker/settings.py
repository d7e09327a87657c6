"""What the worker reads from its environment (prefix ``ATELIER_``)."""

from pydantic import Field

from contract.settings import ContractSettings


class WorkerSettings(ContractSettings):
    device: str = ""
    """``cpu`` or ``cuda`` (``cuda:1`` …); default: CUDA where there is one."""
    concurrency: int = Field(default=4, ge=1)
    """Jobs that are decoded, encoded or waited for at once; the engine takes them in batches."""
    batch_megapixels: float = Field(default=1.0, gt=0)
    """How many megapixels go through the generator at once; one picture alone may be larger."""
    trunk_cache_megabytes: int = Field(default=512, ge=1)
    """Memory for generators; those that were used longest ago leave first."""
    max_upload_megapixels: float = Field(default=50.0, gt=0)
    """The largest picture that is decoded: the same limit as the gateway's."""

"""What every process of one deployment must agree on, from its environment (prefix ``ATELIER_``)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ContractSettings(BaseSettings):
    """Where Redis and the store are, and the promises about jobs. The settings of each process extend these."""

    model_config = SettingsConfigDict(env_prefix="ATELIER_", frozen=True)

    data: Path = Path("data")
    """The data folder of one machine."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """The Redis that holds jobs and queues: ``redis://``, ``rediss://`` or ``unix://``."""
    store: str = ""
    """Where pictures and styles are kept: a folder, or a URL (``s3://``, ``gs://``, ``az://``). Default: in the data
    folder."""
    builtin_styles: Path = Path(__file__).resolve().parent.parent / "styles"
    """The folder of the styles that ship with Atelier."""

    queue_limit: int = Field(default=256, ge=1)
    """Jobs that may wait; one more is answered 503."""
    result_seconds: int = Field(default=3600, ge=1)
    """How long an ended job and its picture are kept."""
    tombstone_seconds: int = Field(default=86_400, ge=0)
    """How much longer its id is answered with 410 instead of 404."""
    job_seconds: int = Field(default=300, ge=1)
    """The longest that one attempt at a job may take."""
    attempts: int = Field(default=3, ge=1)
    """How often a job is tried before it is failed as poison."""
    heartbeat_seconds: float = Field(default=5, gt=0)
    """How often a worker says that it still has a job."""
    lost_after_seconds: float = Field(default=30, gt=0)
    """How long a worker may be silent before its jobs are given to another."""

    @property
    def store_url(self) -> str:
        return self.store or str(self.data.resolve() / "store")

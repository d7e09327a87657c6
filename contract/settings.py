"""What every process of one deployment must agree on, from its environment (prefix ``ATELIER_``)."""

import os
from pathlib import Path
from typing import Self, TypeVar

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.errors import SettingsError

Settings = TypeVar("Settings", bound=BaseSettings)


def load(kind: type[Settings]) -> Settings:
    """The settings of a process from its environment. Raises SettingsError that names the variables that are wrong."""
    try:
        return kind()
    except ValidationError as error:
        wrong = [
            (f"ATELIER_{'_'.join(map(str, e['loc'])).upper()}: " if e["loc"] else "") + e["msg"] for e in error.errors()
        ]
        raise SettingsError("; ".join(wrong)) from None


def traces_collector() -> str:
    """Where spans are sent to: OpenTelemetry's own variables, whose other ones it reads by itself."""
    return os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")


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
    """Jobs that may wait; one more is answered 503. The last eighth is for interactive ones, the last quarter not for
    batches."""
    train_queue_limit: int = Field(default=16, ge=1)
    """Styles that may wait to be trained; one more is answered 503."""
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

    @model_validator(mode="after")
    def _beats_before_it_is_lost(self) -> Self:
        if 2 * self.heartbeat_seconds > self.lost_after_seconds:
            raise ValueError("ATELIER_LOST_AFTER_SECONDS must be at least twice ATELIER_HEARTBEAT_SECONDS")
        return self

    @property
    def store_url(self) -> str:
        return self.store or str(self.data.resolve() / "store")

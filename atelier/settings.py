"""What the launcher and the command line read from their environment (prefix ``ATELIER_``)."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.settings import ContractSettings


class ClientSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ATELIER_", frozen=True)

    api_key: SecretStr = SecretStr("")
    """The key that the service is called with, if it needs one."""


class LauncherSettings(ContractSettings, ClientSettings):
    host: str = Field(default="127.0.0.1", min_length=1)
    """The address that the gateway listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port that the gateway listens on; 0 takes a free one."""
    api_keys: Path | None = None
    """The file of the keys that the service may be called with."""
    redis_url: str = ""
    """Your own Redis; without one, a Redis of its own is started."""
    metrics_port: int = Field(default=0, ge=0, le=65534)
    """The port of the worker's figures, 0 is none; the trainer's is the next one."""
    url: str = ""
    """Where a service runs; default: the one on this data folder."""

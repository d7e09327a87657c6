"""The Python client: a photograph in, the stylized photograph out."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from contract.errors import AtelierError

REQUEST_SECONDS = 90
WAIT_SECONDS = 30


class ServiceError(AtelierError):
    """What the service answered instead of a picture. ``problem`` is its document (RFC 9457)."""

    code = "service-error"
    title = "The service answered with a problem"

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or "The service failed."))
        self.problem = problem


class UnreachableError(AtelierError):
    """No service answers."""

    code = "unreachable"
    title = "The service does not answer"

    def __init__(self, url: str, reason: Exception) -> None:
        super().__init__(
            f"No service answers at {url} ({reason or type(reason).__name__}): start one with `make run`, or say where "
            "it is with ATELIER_URL."
        )


class Client:
    """Talks to a service at a URL. Use it in a ``with`` statement, or ``close`` it. Its methods raise UnreachableError
    when nothing answers there, and ServiceError with what was answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._http = httpx.Client(base_url=url, timeout=REQUEST_SECONDS, trust_env=False)
        except httpx.InvalidURL as error:
            raise UnreachableError(url, error) from error

    def stylize(self, photograph: Path, style: str, **options: str | int | None) -> bytes:
        """The photograph in the style of ``name`` or ``name@version``, waiting as long as it takes.

        ``options`` are those of POST /stylize: size (pixels), format, quality (1..100).
        """
        query = {"style": style, **{name: value for name, value in options.items() if value is not None}}
        response = self._request(
            "POST",
            "/stylize",
            params=query,
            content=photograph.read_bytes(),
            headers={"Content-Type": "application/octet-stream", "Prefer": f"wait={WAIT_SECONDS}"},
        )
        if response.status_code == httpx.codes.ACCEPTED:
            response = self._result(response.json()["urls"])
        return _checked(response).content

    def styles(self) -> list[dict[str, Any]]:
        """The cards of all styles."""
        styles: list[dict[str, Any]] = _checked(self._request("GET", "/styles")).json()["styles"]
        return styles

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _result(self, urls: dict[str, str]) -> httpx.Response:
        """The result of a job that took longer than the request, once it has ended."""
        while True:
            job = _checked(self._request("GET", urls["self"], params={"wait": WAIT_SECONDS})).json()
            if job["state"] not in ("queued", "running"):
                return self._request("GET", urls["result"])

    def _request(self, method: str, address: str, **parts: Any) -> httpx.Response:
        try:
            return self._http.request(method, address, **parts)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(self._url, error) from error


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    try:
        problem = response.json()
    except ValueError:
        problem = {"status": response.status_code, "detail": f"The service answered {response.status_code}."}
    raise ServiceError(problem)

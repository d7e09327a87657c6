"""The Python client: a photograph in, the stylized photograph out; paintings in, a new style out."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from atelier.events import Event, parse_events
from atelier.settings import ClientSettings
from contract.errors import AtelierError
from contract.settings import load

REQUEST_SECONDS = 90
WAIT_SECONDS = 30
AGAIN_SECONDS = 1
AWAY_SECONDS = 60
PATIENCE_SECONDS = 600
"""How long pictures are sent again that the service has no room for."""
UNFINISHED = ("queued", "running")
TURNED_AWAY = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
PART_BYTES = 512
"""More than what a form adds to a file."""

Watch = Callable[[dict[str, Any]], object]
Busy = Callable[["ServiceError"], object]
Option = str | int | float | bool | None
"""None is the service's default."""


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


class _BusyError(Exception):
    """The service answers, and has no place for one more who listens."""


class Client:
    """Talks to a service at a URL, with a key if it needs one; without ``key``, that is ATELIER_API_KEY.

    Use it in a ``with`` statement, or ``close`` it. Its methods raise UnreachableError when nothing answers there, and
    ServiceError with what was answered.

    Pictures to stylize that are turned away for now (429 or 503 with ``Retry-After``) are sent again when they may be,
    for as long as ``patience_seconds`` each time; ``busy`` is told once why they wait.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        busy: Busy = lambda _: None,
    ) -> None:
        self._url = url
        self._patience_seconds = patience_seconds
        self._busy = busy
        key = load(ClientSettings).api_key.get_secret_value() if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=REQUEST_SECONDS, trust_env=False)
        except httpx.InvalidURL as error:
            raise UnreachableError(url, error) from error

    def stylize(self, photograph: Path, style: str, **options: Option) -> bytes:
        """The photograph in a style, waiting as long as it takes.

        ``style`` is ``name``, ``name@version``, or a blend of styles of one trunk: ``a:0.6,b:0.4``. ``options`` are
        those of POST /stylize: strength (0..1.5), preserve_color, size (pixels), format, quality (1..100).
        """
        query = {"style": style, **_given(options)}
        response = self._send_pictures(
            params=query,
            content=photograph.read_bytes(),
            headers={"Content-Type": "application/octet-stream", "Prefer": f"wait={WAIT_SECONDS}"},
        )
        if response.status_code == httpx.codes.ACCEPTED:
            job = self.follow(response.json(), lambda _: None)
            response = self._request("GET", job["urls"]["result"])
        return _checked(response).content

    def stylize_all(
        self, photographs: Sequence[Path], style: str, **options: Option
    ) -> Iterator[tuple[Path, bytes | ServiceError]]:
        """Each photograph in a style, in their order, in batches as large as the service takes; or why it is not.

        ``style`` and ``options`` are those of ``stylize``. A batch is taken whole or not at all: what keeps it from
        being taken, for longer than there is patience, is raised.
        """
        limits = {limit["name"]: limit["value"] for limit in _checked(self._request("GET", "/limits")).json()["limits"]}
        for paths in sliced(photographs, int(limits["batch"]), int(limits["body"])):
            if len(paths) == 1:
                yield paths[0], self.stylize(paths[0], style, **options)
                continue
            job = self.follow(self._begin_batch(paths, {"style": style, **_given(options)}), lambda _: None)
            for path, child in zip(paths, job["children"], strict=True):
                try:
                    yield path, _checked(self._request("GET", child["urls"]["result"])).content
                except ServiceError as error:
                    yield path, error

    def styles(self) -> list[dict[str, Any]]:
        """The cards of all styles."""
        styles: list[dict[str, Any]] = _checked(self._request("GET", "/styles")).json()["styles"]
        return styles

    def train(
        self,
        pictures: Sequence[Path],
        name: str,
        watch: Watch = lambda _: None,
        **options: Option,
    ) -> dict[str, Any]:
        """A new style from 1 to 8 pictures of it, waiting until it is published; the result of the job.

        ``options`` are those of POST /styles: quality (quick or full), iterations, style_weight, stroke_size, content,
        title, description, replace. ``watch`` is told of the job's document whenever it changes.
        """
        return result_of(self.follow(self.begin_training(pictures, name, **options), watch))

    def begin_training(self, pictures: Sequence[Path], name: str, **options: Option) -> dict[str, Any]:
        """The document of the job that has been queued. The arguments are those of ``train``."""
        fields = {name: str(value).lower() if isinstance(value, bool) else str(value)
                  for name, value in {"name": name, **_given(options)}.items()}  # fmt: skip
        with ExitStack() as files:
            images = [("image", (path.name, files.enter_context(path.open("rb")))) for path in pictures]
            job: dict[str, Any] = _checked(self._request("POST", "/styles", data=fields, files=images)).json()
        return job

    def jobs(self, *, kind: str | None = None, state: str | None = None, limit: int = 100) -> dict[str, Any]:
        """The jobs that wait or run, in the order in which they came.

        ``jobs`` has ``limit`` documents (1..1000) at most, ``total`` says how many there are. ``kind`` is stylize,
        train or batch, ``state`` queued or running; None is all.
        """
        query = _given({"kind": kind, "state": state, "limit": limit})
        found: dict[str, Any] = _checked(self._request("GET", "/jobs", params=query)).json()
        return found

    def job(self, url: str) -> dict[str, Any]:
        """The document of the job at this address (``urls.self``)."""
        job: dict[str, Any] = _checked(self._request("GET", url)).json()
        return job

    def follow(self, job: dict[str, Any], watch: Watch) -> dict[str, Any]:
        """The document of the job when it has ended; ``watch`` is told of it whenever it changes meanwhile.

        The job goes on whoever watches, so a service that is away for less than a minute is waited for. One that has no
        place for listeners is asked again and again how the job is.
        """
        heard, answered = "", time.monotonic()
        while job["state"] in UNFINISHED:
            try:
                for event in self._events(job["urls"]["events"], heard):
                    heard, answered = event.id, time.monotonic()
                    job = event.applied(job)
                    watch(job)
            except _BusyError:
                time.sleep(AGAIN_SECONDS)
                known, job = job, self.job(job["urls"]["self"])
                answered = time.monotonic()
                if job != known:
                    watch(job)
            except UnreachableError:
                if time.monotonic() - answered > AWAY_SECONDS:
                    raise
                time.sleep(AGAIN_SECONDS)
        return job

    def cancel(self, url: str) -> None:
        """Ends the job at this address (``urls.cancel``)."""
        _checked(self._request("DELETE", url))

    def picture(self, url: str) -> bytes:
        """A picture by the address that a document gave: a result (of a batch an archive), a preview, a thumbnail, a
        contact sheet."""
        return _checked(self._request("GET", url)).content

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin_batch(self, photographs: Sequence[Path], query: dict[str, str | int | float | bool]) -> dict[str, Any]:
        """The document of the batch that has been queued."""
        images = [("image", (path.name, path.read_bytes())) for path in photographs]
        job: dict[str, Any] = _checked(self._send_pictures(params=query, files=images)).json()
        return job

    def _send_pictures(self, **parts: Any) -> httpx.Response:
        """What the service answers to pictures when it has room for them, or when there is no more patience."""
        deadline = time.monotonic() + self._patience_seconds
        told = False
        while True:
            response = self._request("POST", "/stylize", **parts)
            seconds = _seconds_to_wait(response)
            if seconds is None or time.monotonic() + seconds > deadline:
                return response
            if not told:
                self._busy(_error_of(response))
                told = True
            time.sleep(seconds)

    def _events(self, url: str, heard: str) -> Iterator[Event]:
        """What happens to a job after this event, until it ends or the service lets go.

        Raises UnreachableError when nothing answers, _BusyError when there is no place.
        """
        try:
            with self._http.stream("GET", url, headers={"Last-Event-ID": heard} if heard else {}) as response:
                if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
                    raise _BusyError
                if not response.is_success:
                    response.read()
                yield from parse_events(_checked(response).iter_lines())
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(self._url, error) from error

    def _request(self, method: str, address: str, **parts: Any) -> httpx.Response:
        try:
            return self._http.request(method, address, **parts)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(self._url, error) from error


def result_of(job: dict[str, Any]) -> dict[str, Any]:
    """What a job that has ended has made. Raises ServiceError when it failed or was canceled."""
    if job["state"] != "succeeded":
        raise ServiceError(job["error"] or {"detail": "The job was canceled.", "code": "job-canceled"})
    result: dict[str, Any] = job["result"]
    return result


def sliced(paths: Sequence[Path], count: int, max_bytes: int) -> Iterator[list[Path]]:
    """Slices of so many files at most, and of so many bytes, as a form has them."""
    slice_: list[Path] = []
    size = 0
    for path in paths:
        more = path.stat().st_size + PART_BYTES + len(path.name)
        if slice_ and (len(slice_) == count or size + more > max_bytes):
            yield slice_
            slice_, size = [], 0
        slice_.append(path)
        size += more
    if slice_:
        yield slice_


def _given(options: dict[str, Option]) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in options.items() if value is not None}


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    raise _error_of(response)


def _error_of(response: httpx.Response) -> ServiceError:
    try:
        return ServiceError(response.json())
    except ValueError:
        return ServiceError({"status": response.status_code, "detail": f"The service answered {response.status_code}."})


def _seconds_to_wait(response: httpx.Response) -> int | None:
    """When to send again what was turned away for now; None when it was not, or nobody says when."""
    hint = response.headers.get("Retry-After", "")
    return max(int(hint), AGAIN_SECONDS) if response.status_code in TURNED_AWAY and hint.isdecimal() else None

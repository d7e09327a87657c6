"""What the client would like: ``Accept`` (RFC 9110, 12.5.1), ``Prefer`` (RFC 7240) and ``Cache-Control``."""

from dataclasses import dataclass

from contract.errors import NotAcceptableError
from contract.images import MediaType

JSON = "application/json"


@dataclass(frozen=True)
class Range:
    """One member of an Accept header: ``image/*;q=0.8``."""

    type: str
    subtype: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """How closely it names a media type: 2 exactly, 1 its kind, 0 anything, -1 not at all."""
        kind, _, subtype = media_type.partition("/")
        if (self.type, self.subtype) == (kind, subtype):
            return 2
        if (self.type, self.subtype) == (kind, "*"):
            return 1
        return 0 if (self.type, self.subtype) == ("*", "*") else -1


class Accept:
    """A parsed Accept header, which may stand in several lines; without one, everything is accepted.

    Members that make no sense are ignored, and a header of nothing else is none.
    """

    def __init__(self, headers: list[str]) -> None:
        members = ",".join(headers).split(",")
        self._ranges = [parsed for member in members if (parsed := _parse_range(member))] or [Range("*", "*", 1.0)]

    def quality(self, media_type: str) -> float:
        """0 to 1; the most specific range that matches decides."""
        matching = [(r.specificity(media_type), r.quality) for r in self._ranges if r.specificity(media_type) >= 0]
        return max(matching)[1] if matching else 0.0

    def wants_document(self) -> bool:
        """Whether the job document is wanted rather than a picture: JSON is named, and preferred to every format."""
        names_json = any(r.specificity(JSON) == 2 for r in self._ranges)
        return names_json and self.quality(JSON) > max(self._picture_quality(media_type) for media_type in MediaType)

    def _picture_quality(self, media_type: MediaType) -> float:
        """What a bare ``*/*`` beside JSON gives does not count as asking for a picture."""
        matching = [(r.specificity(media_type), r.quality) for r in self._ranges if r.specificity(media_type) > 0]
        return max(matching)[1] if matching else 0.0

    def best_format(self, own: MediaType) -> MediaType:
        """The format that is liked best; among equals the upload's own, then in the order of ``MediaType``.

        Raises NotAcceptableError when none is acceptable.
        """
        best = max(MediaType, key=lambda media_type: (self.quality(media_type), media_type is own))
        if self.quality(best) > 0:
            return best
        raise NotAcceptableError(f"Atelier answers with {', '.join(MediaType)}, or with {JSON}: accept one of them.")


@dataclass(frozen=True)
class Prefer:
    """The preferences that we know: how long to wait for the picture, in seconds."""

    wait_seconds: float
    respond_async: bool = False
    waits_as_asked: bool = False
    """Whether the time is the client's wish, and not the default."""

    @classmethod
    def parse(cls, headers: list[str], *, default_seconds: float, max_seconds: float) -> "Prefer":
        """Preferences that we do not know, or that make no sense, are ignored, as RFC 7240 asks."""
        respond_async, wait = False, None
        for member in ",".join(headers).split(","):
            name, _, value = member.split(";")[0].partition("=")
            name, value = name.strip().lower(), value.strip().strip('"')
            if name == "respond-async":
                respond_async = True
            elif name == "wait" and wait is None and value.isdecimal() and len(value) < 10:
                wait = min(float(value), max_seconds)
        if wait is not None:
            return cls(wait, respond_async, waits_as_asked=True)
        return cls(0.0 if respond_async else default_seconds, respond_async)

    def applied(self, *, accepted: bool) -> str | None:
        """The value of ``Preference-Applied``, if any preference was. ``accepted``: the answer is 202."""
        names = ["respond-async"] if self.respond_async and accepted else []
        if self.waits_as_asked:
            names.append(f"wait={self.wait_seconds:g}")
        return ", ".join(names) or None


@dataclass(frozen=True)
class Caching:
    """What ``Cache-Control`` of a request says (RFC 9111, 5.2.1): whether an earlier answer will do, and this one may
    be another's."""

    may_find: bool
    may_be_found: bool

    @classmethod
    def parse(cls, headers: list[str]) -> "Caching":
        directives = {member.partition("=")[0].strip().lower() for member in ",".join(headers).split(",")}
        stores = "no-store" not in directives
        return cls(may_find=stores and "no-cache" not in directives, may_be_found=stores)


def _parse_range(member: str) -> Range | None:
    name, *parameters = (part.strip() for part in member.split(";"))
    kind, slash, subtype = name.lower().partition("/")
    if not slash or not kind or not subtype:
        return None
    quality = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                return None
    return Range(kind, subtype, quality)

"""The events of a job, as the service streams them: read line by line, and applied to the job's document."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """One event of a job."""

    name: str
    id: str
    data: dict[str, Any]

    def applied(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job's document after it."""
        match self.name:
            case "snapshot":
                return self.data
            case "state":
                return self.data["job"] or {**job, "state": self.data["state"], "attempt": self.data["attempt"]}
            case "progress":
                return {**job, "progress": self.data}
        return job


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a stream; its comments are left out, and what was cut off."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Event(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}

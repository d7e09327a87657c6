"""The numbers of the comparison: one JSON file, written after each measurement."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import SettingsError
from trainer.paper.plan import GROWING, Budget

FORMAT = 1


@dataclass(frozen=True)
class Row:
    """One measurement: what it is about, and its figures."""

    about: dict[str, Any]
    figures: dict[str, float]


class Results:
    """A table of measurements. What is in it already is not measured again."""

    def __init__(self, path: Path, settings: dict[str, Any], rows: list[Row]) -> None:
        self.path = path
        self.settings = settings
        self.rows = rows

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Raises SettingsError when there are none."""
        if not path.is_file():
            raise SettingsError(f"There are no results at {path.name} yet: measure first.")
        data = json.loads(path.read_text())
        if data.get("format") != FORMAT:
            raise SettingsError(f"{path.name} has format {data.get('format')}, and {FORMAT} is what is read.")
        return cls(path, data["settings"], [Row(row["about"], row["figures"]) for row in data["rows"]])

    @classmethod
    def open(cls, path: Path, budget: Budget, device: str) -> "Results":
        """Those of the file, or none yet. Raises SettingsError when they were measured with another budget."""
        settings = {**budget.settings(), "device": device}
        if not path.exists():
            return cls(path, settings, [])
        results = cls.read(path)
        if other := [name for name in settings if name not in GROWING and settings[name] != results.settings[name]]:
            raise SettingsError(f"The folder holds results of another {', '.join(other)}: name another folder.")
        results.settings = settings
        return results

    def knows(self, **about: Any) -> bool:
        return any(row.about == about for row in self.rows)

    def add(self, about: dict[str, Any], figures: dict[str, float]) -> None:
        self.rows = [row for row in self.rows if row.about != about]
        self.rows.append(Row(about, figures))
        self.save()

    def forget(self, experiment: str) -> None:
        self.rows = [row for row in self.rows if row.about["experiment"] != experiment]

    def select(self, **about: Any) -> list[Row]:
        """The measurements of which all of this is true, in the order in which they were made."""
        return [row for row in self.rows if about.items() <= row.about.items()]

    def values(self, figure: str, **about: Any) -> list[float]:
        return [row.figures[figure] for row in self.select(**about)]

    def save(self) -> None:
        """Beside, then in its place: a reader never sees half a file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = ",\n".join(json.dumps({"about": row.about, "figures": row.figures}) for row in self.rows)
        beside = self.path.with_suffix(".new")
        beside.write_text(f'{{"format": {FORMAT},\n"settings": {json.dumps(self.settings)},\n"rows": [\n{rows}\n]}}\n')
        beside.replace(self.path)

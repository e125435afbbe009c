"""The comparison of runs as a result: which studies they have, the page, and the figures for programs.

Knows finished studies and their places; must never load torch or a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwnas.answers import study_file
from hwnas.comparison.checks import check_comparable
from hwnas.comparison.measuring import measured
from hwnas.errors import ConfigError
from hwnas.files import write_whole
from hwnas.report.comparison import ComparisonInputs, measures_table, render_comparison
from hwnas.results import Result, Shown
from hwnas.search.study_file import load_study

_PAGE = "comparison.html"


@dataclass(frozen=True, kw_only=True)
class ComparisonResult(Result):
    """Searches side by side.

    Attributes:
        file: the page.
        inputs: what it shows.
    """

    file: Path
    inputs: ComparisonInputs

    def values(self) -> Mapping[str, object]:
        """Where the page is, and every group's numbers; the hypervolume after each evaluation too."""
        return {
            "file": self.file,
            "reference": self.inputs.reference,
            "evaluations": self.inputs.n_common,
            "groups": [
                {
                    "name": g.name,
                    "studies": g.studies,
                    "hypervolume": g.share_at,
                    "hypervolume_after_each": g.share,
                    "igd_plus": g.distance,
                    "igd_plus_after_each": g.distances,
                    "additive_epsilon": g.epsilon,
                    "evaluations_to": g.evaluations_to,
                    "relative_improvement": g.improvement,
                    "relative_improvement_after_each": g.improvements,
                }
                for g in self.inputs.groups
            ],
        }

    @property
    def shown(self) -> Shown:
        """The page's table of measures."""
        headers, rows = measures_table(self.inputs)
        return Shown(
            title=f"{len(self.inputs.studies)} searches compared",
            columns=headers,
            rows=[[str(cell) for cell in row] for row in rows],
            notes=[*self.inputs.notes, f"Comparison: {self.file}"],
        )


def compare_studies(
    places: Sequence[Path],
    *,
    device: str = "",
    reference: Mapping[str, float] | None = None,
    folder: Path | None = None,
) -> ComparisonResult:
    """Compare finished searches, and write the page.

    Args:
        places: at least two: folders of runs, or files of studies.
        device: which of the devices, in runs for several.
        reference: metric -> the worst value that counts for the hypervolume; of others, a tenth of all networks is
            worse.
        folder: where `comparison.html` is written; None: into the first run's folder, or beside its file.

    Raises:
        ConfigError: fewer than two places, one twice, or one without a finished study.
        StudyError: a study cannot be read, or they cannot be compared; names what differs.
        OSError: the page cannot be written.
    """
    names = _names(places)
    studies = {
        name: load_study(study_file(place, device if place.is_dir() else ""))
        for name, place in zip(names, places, strict=True)
    }
    notes = check_comparable(studies)
    inputs = measured(studies, reference=reference or {}, notes=notes)
    first = places[0]
    page = (folder or (first if first.is_dir() else first.parent)) / _PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, render_comparison(inputs).encode())
    return ComparisonResult(file=page, inputs=inputs)


def _names(places: Sequence[Path]) -> list[str]:
    """What each is called: the end of its path, as long as it takes to tell them apart.

    Raises:
        ConfigError: fewer than two, or one of them twice.
    """
    resolved = [place.resolve() for place in places]
    if len(places) < 2:
        raise ConfigError("a comparison needs at least two runs; name them one after another")
    twice = sorted({str(place) for place in resolved if resolved.count(place) > 1})
    if twice:
        raise ConfigError(f"{', '.join(twice)} is named twice; a run is not compared with itself")
    for length in range(1, max(len(place.parts) for place in resolved) + 1):
        names = ["/".join(place.parts[-length:]) for place in resolved]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("paths that differ have names that differ")

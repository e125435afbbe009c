"""`fleet.json`: what became of every device and budget of a run, kept after each of them; the picture and page of it.

Several processes may work on different devices of one run. Knows files and rows, not how a row came about.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from hwnas.allowed import Allowed, Limits, limits_from_json, limits_to_json
from hwnas.config import Config, device_name
from hwnas.errors import ConfigError, StudyError
from hwnas.files import read_document, write_document, write_whole
from hwnas.report.figures import front_rows
from hwnas.report.fleet import DeviceFront, FleetDevice, FleetInputs, FleetRow, fleet_figure, render_fleet
from hwnas.search import load_study
from hwnas.workspace import Workspace

SCHEMA = 2
_UNSEALED_SCHEMA = 1  # without a checksum
_DPI = 200
_Key = tuple[str, tuple[tuple[str, Allowed], ...]]


class FleetRecord:
    """The rows and devices of one run.

    Args:
        config: of the run, or a part of it.

    Raises:
        ConfigError: the file is damaged.
    """

    def __init__(self, config: Config) -> None:
        self.config = config.whole
        self._work = Workspace(self.config)
        self.path = self._work.folder / "fleet.json"
        self._rows: dict[_Key, FleetRow] = {}
        self._devices: dict[str, FleetDevice] = {}
        self._read()

    def row(self, device: str, budget: Limits) -> FleetRow | None:
        """What is known of one device and budget."""
        return self._rows.get(_key(device, budget))

    def device(self, name: str) -> FleetDevice | None:
        """What is known of one device."""
        return self._devices.get(name)

    @property
    def rows(self) -> list[FleetRow]:
        """Those of the run's devices, in the configuration's order, other budgets than the configured ones last."""
        found: list[FleetRow] = []
        for name in self.config.device.all:
            mine = {k: r for k, r in self._rows.items() if r.device == device_name(name)}
            configured = [_key(device_name(name), b.given()) for b in self.config.budgets_of(name)]
            # deployments of budgets that are no longer asked for still exist
            found += [mine[k] for k in dict.fromkeys([*configured, *mine]) if k in mine]
        return found

    @property
    def devices(self) -> list[FleetDevice]:
        """The run's devices, as far as they were worked on."""
        names = [device_name(name) for name in self.config.device.all]
        return [self._devices[name] for name in names if name in self._devices]

    def keep(self, *news: FleetRow | FleetDevice) -> None:
        """Put rows or devices in the place of the older ones, in the file too."""
        with self._work.alone("saving", wait=True):
            # another process may have kept rows of other devices since: they must not be lost
            self._read()
            for new in news:
                if isinstance(new, FleetRow):
                    self._rows[_key(new.device, new.budget)] = new
                else:
                    self._devices[new.name] = new
            self._write()

    def forget_other_budgets(self, devices: Sequence[str]) -> None:
        """Drop the rows of these devices that the configuration no longer asks for; their deployments stay."""
        with self._work.alone("saving", wait=True):
            self._read()
            wanted = {_key(device_name(n), b.given()) for n in devices for b in self.config.budgets_of(n)}
            names = {device_name(n) for n in devices}
            self._rows = {k: r for k, r in self._rows.items() if r.device not in names or k in wanted}
            self._write()

    def to_json(self) -> dict[str, Any]:
        """Rows and devices as JSON values."""
        return self._values(self.devices, self.rows)

    def _values(self, devices: Iterable[FleetDevice], rows: Iterable[FleetRow]) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "space": self.config.space.preset,
            "devices": [{**asdict(d), "precisions": list(d.precisions)} for d in devices],
            "rows": [
                {**asdict(r), "budget": limits_to_json(r.budget), "limits": limits_to_json(r.limits)} for r in rows
            ],
        }

    # ------------------------------------------------------------ picture and page

    def publish(self) -> dict[str, str]:
        """Write `fleet.html`, and `fleet.png` and `fleet.svg` if there is a front to draw; name -> path."""
        fronts = [front for d in self.devices if (front := self._front(d)) is not None]
        inputs = FleetInputs(
            space=self.config.space.preset,
            folder=str(self._work.folder),
            metric=self.config.ranked_by,
            devices=self.devices,
            rows=self.rows,
            fronts=fronts,
        )
        written = {"fleet.html": render_fleet(inputs).encode()}
        if fronts:
            written |= _drawn(fronts, self.rows, metric=self.config.ranked_by)
        for name, content in written.items():
            write_whole(self._work.folder / name, content)
        return {name: str(self._work.folder / name) for name in written}

    def _front(self, device: FleetDevice) -> DeviceFront | None:
        (name,) = [n for n in self.config.device.all if device_name(n) == device.name]
        try:
            study = load_study(Workspace(self.config.part(name)).study)
        except StudyError:
            return None
        metric = study.ranked_by
        rows = front_rows(study, metric=metric, cost="latency_ms", limits={})
        if not rows:
            return None
        return DeviceFront(
            device=device.name,
            latency_ms=np.asarray(study.values["latency_ms"][rows]),
            accuracy=np.asarray(study.values[metric][rows]),
        )

    # ------------------------------------------------------------ the file

    def _read(self) -> None:
        if not self.path.exists():
            return
        try:
            values = read_document(self.path, is_older=lambda v: v.get("schema") != SCHEMA)
            if values["schema"] not in (_UNSEALED_SCHEMA, SCHEMA):
                raise ValueError(f"schema {values['schema']!r}; this version reads {SCHEMA}")
            rows = [
                FleetRow(**{**row, **{k: limits_from_json(row[k]) for k in ("budget", "limits") if k in row}})
                for row in values["rows"]
            ]
            devices = [FleetDevice(**{**d, "precisions": tuple(d["precisions"])}) for d in values["devices"]]
        except (ValueError, TypeError, KeyError) as e:
            raise ConfigError(f"{self.path} is damaged ({e}); delete it, `hwnas run` makes it again") from e
        self._rows = {_key(r.device, r.budget): r for r in rows}
        self._devices = {d.name: d for d in devices}

    def _write(self) -> None:
        known = [r for r in self._rows.values() if r not in self.rows]  # of devices the run no longer has
        gone = [d for d in self._devices.values() if d not in self.devices]
        write_document(self.path, self._values([*self.devices, *gone], [*self.rows, *known]))


def _key(device: str, budget: Limits) -> _Key:
    return device, tuple(sorted(budget.items()))


def _drawn(fronts: Sequence[DeviceFront], rows: Sequence[FleetRow], *, metric: str) -> dict[str, bytes]:
    import matplotlib

    figure = fleet_figure(fronts, rows, metric=metric)
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI)
    # random ids otherwise: the same figure would be another file each time
    with matplotlib.rc_context({"svg.hashsalt": "hwnas"}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return {"fleet.png": png.getvalue(), "fleet.svg": svg.getvalue()}

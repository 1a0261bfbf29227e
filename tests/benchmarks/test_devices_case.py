"""The devices case, with everything small."""

import argparse
import json
import re

from benchmarks import devices
from benchmarks.devices import experiment


def test_run(tmp_path, monkeypatch, capsys):
    """The measurement itself, on the devices that there are; the process around it is faked."""
    monkeypatch.setattr(experiment, "HEAVY_SECONDS", 1e-4)
    rows = [row for row in experiment.measure(1) if row["devices"] == 1]
    assert [row["objective"] for row in rows] == ["heavy", "cheap"]
    more = [row | {"devices": 2, "seconds": row["seconds"] / 2} for row in rows]

    def process(command, **options):
        assert "device_count=2" in options["env"]["XLA_FLAGS"]
        return argparse.Namespace(stdout=json.dumps([*rows, *more]))

    monkeypatch.setattr(devices.subprocess, "run", process)
    devices.run(argparse.Namespace(full=False, out=tmp_path, devices=2))
    assert (tmp_path / "devices.png").stat().st_size > 5_000
    assert re.search(r"heavy *\| *2 \| *replay", capsys.readouterr().out)
    result = json.loads((tmp_path / "devices.json").read_text())
    assert devices.tables(result)["devices"].count("2.00") >= 2

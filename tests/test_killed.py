"""`openmm-duality simulate` ended by signals with learned forces: the resumed run equals an uninterrupted one."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import mdtraj
from click.testing import CliRunner

from openmm_duality.cli import main
from openmm_duality.dynamics.checkpoint import read_checkpoint
from tests.command import hear_interrupts
from tests.water import liquid, water_losses

ROOT = Path(__file__).parents[1]
DCD_DATE = slice(180, 260)
STEPS, REPORT = 480, 4


def dcd(path):
    data = bytearray(path.read_bytes())
    data[DCD_DATE] = b""
    return bytes(data)


def ended_by(number, program, directory, after, errors):
    """End the program by a signal once the log of its run has so many rows; returns its exit code."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with open(errors, "w") as file:
        process = subprocess.Popen(
            program,
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.DEVNULL,
            stderr=file,
            preexec_fn=hear_interrupts,
        )
        log, checkpoint = directory / "log.csv", directory / "checkpoint.chk"
        while process.poll() is None and not (checkpoint.exists() and log.read_bytes().count(b"\n") > after):
            time.sleep(0.002)
        process.send_signal(number)
        return process.wait()


def test_a_killed_run_resumes_as_if_uninterrupted(tmp_path):
    """Ctrl-C and SIGTERM leave a checkpoint of the step at which they came, SIGKILL the last one that was due."""
    model, start = tmp_path / "model.safetensors", tmp_path / "start.safetensors"
    water_losses("collective").save(model)
    liquid()[1][:1].save(start)

    def command(directory):
        return [
            *("simulate", str(model), "--start", str(start), "-o", str(directory), "--seed", "7"),
            *("--time", f"{STEPS / 2} fs", "--report", f"{REPORT / 2} fs", "--platform", "CPU", "--velocities"),
            *("--integrator", "langevin", "--monitor-interval", "4 fs", "--uncertainty"),
        ]

    def finish(directory):
        result = CliRunner().invoke(main, command(directory))
        assert result.exit_code == 0, result.output
        return json.loads((directory / "run.json").read_text())

    broken, whole, errors = tmp_path / "broken", tmp_path / "whole", tmp_path / "errors"
    program = [sys.executable, "-m", "openmm_duality.cli", *command(broken)]
    frames = STEPS // REPORT
    asked = random.choice([(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    for number, code, status, after in (
        (*asked, "interrupted", 10 + random.randrange(frames // 4)),
        (signal.SIGKILL, -9, "running", random.randrange(frames // 2, 3 * frames // 4)),
    ):
        assert ended_by(number, program, broken, after, errors) == code, errors.read_text()
        record = json.loads((broken / "run.json").read_text())
        assert record["status"] == status
        if status == "interrupted":
            assert read_checkpoint(broken / "checkpoint.chk").step == record["steps_done"] >= REPORT * after
            assert "Traceback" not in errors.read_text()
            assert f"after step {record['steps_done']}" in record["reason"]

    record = finish(broken)
    expected = finish(whole)
    assert record["status"] == "finished"
    assert record["losses"] == expected["losses"]
    for name in ("trajectory.dcd", "velocities.dcd"):
        assert dcd(broken / name) == dcd(whole / name)
    assert mdtraj.load(broken / "trajectory.dcd", top=broken / "topology.pdb").n_frames == STEPS // REPORT
    for name in ("log.csv", "uncertainty.csv"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert record["alarms"] == expected["alarms"]
    if record["alarms"]:
        assert (broken / "alarms.csv").read_bytes() == (whole / "alarms.csv").read_bytes()
    with open(broken / "log.csv") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(REPORT, STEPS + 1, REPORT))

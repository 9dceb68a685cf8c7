"""No death, no second process and no damage loses a run of `jaxlstm train`, or changes what it learns."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from runs import OPTIONS, STRICT, metrics, snapshot

from jaxlstm.cli import _checkpoints, _fit, _lock


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


KILLED = """
import os, signal, sys

event, end = sys.argv[1:3]

def kill(name, args):
    if name == event and args and isinstance(args[0], str | bytes | os.PathLike) and os.fsdecode(args[0]).endswith(end):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
from jaxlstm.cli import main
main(sys.argv[3:])
"""


def test_a_run_killed_at_any_moment_resumes_to_the_same_losses(finished, text_file, tmp_path, call):
    """One run, killed by SIGKILL as a file of it is about to be made, renamed or deleted; and again, and again."""
    out = tmp_path / "run"
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}

    def killed(event: str, path: str, *args) -> str:
        command = [sys.executable, "-W", "error", "-c", KILLED, event, path, "train", "--out", out, *map(str, args)]
        end = subprocess.run(command, env=os.environ | STRICT | cache, capture_output=True, text=True, timeout=300)
        assert end.returncode == -signal.SIGKILL, end.stderr
        return end.stdout

    def unfinished(name: str) -> bool:
        return any(path.name.startswith(".part.") and path.suffix == name for path in out.rglob("*"))

    killed("os.rename", ".json", text_file, *OPTIONS)
    assert len(list(out.iterdir())) == 2
    assert unfinished(".json")
    said = killed("os.rename", ".jsonl", text_file, "--resume", *OPTIONS)
    assert "text and options are those given now" in said
    assert not unfinished(".json")
    assert not (out / "metrics.jsonl").exists()
    said = killed("os.rename", ".safetensors", "--resume")
    assert "beginning anew at step 0" in said
    assert len(metrics(out).splitlines()) == 10
    status, _, err = call("sample", out)
    assert status == 2
    assert "no checkpoint yet" in err
    assert unfinished(".safetensors")
    said = killed("os.remove", "/10.safetensors", "--resume")
    assert "beginning anew at step 0" in said
    assert not unfinished(".safetensors")
    assert len(metrics(out).splitlines()) == 30
    said = killed("os.rename", ".png", "--resume")
    assert "Finished already, at step 30 of 30." in said

    assert call("train", "--resume", "--out", out)[0] == 0
    assert metrics(out) == metrics(finished)
    assert snapshot(out / "checkpoints").keys() == {str(out / "checkpoints" / f"{k}.safetensors") for k in (10, 20, 30)}
    assert call("sample", out) == call("sample", finished)


def test_lines_after_the_checkpoint_are_taken_out(finished, run, call):
    (run / "checkpoints" / "30.safetensors").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    status, out, _ = call("train", "--resume", "--out", run)
    assert "Going on from step 20 of 30." in out
    assert (status, metrics(run)) == (0, metrics(finished))


HOLDER = f"""
import fcntl, sys
file = open(sys.argv[1] + "/{_lock.LOCK}", "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_run_is_trained_by_one_process_at_a_time(run, call):
    before = snapshot(run)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "locked\n"
        status, out, err = call("train", "--resume", "--out", run)
        assert (status, out) == (2, "")
        assert err == f"Error: --out {run}: another process trains in {run}. Wait for it, or give another.\n"
        assert call("sample", run, "--length", 5)[0] == 0
        assert snapshot(run) == before
        holder.kill()
    assert call("train", "--resume", "--out", run)[0] == 0


def test_what_another_process_did_before_the_lock_was_had_is_noticed(finished, text_file, tmp_path, call, monkeypatch):
    held = _lock.held

    @contextlib.contextmanager
    def late(out):
        shutil.copytree(finished, out)
        with held(out):
            yield

    monkeypatch.setattr(_lock, "held", late)
    status, _, err = call("train", text_file, "--out", tmp_path / "run", *OPTIONS)
    assert status == 2
    assert "holds a run already" in err
    assert metrics(tmp_path / "run") == metrics(finished)


def flipped(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_every_damage_to_a_checkpoint_is_noticed(run):
    path = run / "checkpoints" / "30.safetensors"
    whole = path.read_bytes()
    checkpoints = _checkpoints.Checkpoints(run)
    for bit in [*range(0, 8 * 4000, 37), *range(8 * 4000, 8 * len(whole), 40_001), 8 * len(whole) - 1]:
        flipped(path, bit)
        with pytest.raises(_checkpoints.Damaged, match=r"30\.safetensors: damaged"):
            checkpoints.read(30)
        path.write_bytes(whole)
    for data in (b"", whole[:7], whole[:-1], whole + b"\0", b"\xff" * 100):
        path.write_bytes(data)
        with pytest.raises(_checkpoints.Damaged):
            checkpoints.read(30)


@pytest.mark.parametrize("name", ["checkpoints/30.safetensors", "metrics.jsonl"])
def test_damage_sends_a_run_back_to_the_older_checkpoint(name, finished, run, call):
    flipped(run / name, 8 * (run / name).stat().st_size - 100)
    status, out, err = call("train", "--resume", "--out", run)
    assert status == 0
    assert "Going on from step 20 of 30." in out
    assert err.startswith(f"{run / name}: damaged (")
    assert err.splitlines()[0].endswith("). The checkpoint of step 20 is used.")
    assert metrics(run) == metrics(finished)
    assert snapshot(run / "checkpoints").keys() == {str(run / "checkpoints" / f"{k}.safetensors") for k in (20, 30)}


@pytest.mark.parametrize("command", ["train", "sample"])
def test_a_run_without_a_whole_checkpoint_is_refused_in_a_line(command, run, call):
    for path in (run / "checkpoints").iterdir():
        flipped(path, 8 * 5000)
    before = snapshot(run)
    status, _, err = call(*(("train", "--resume", "--out", run) if command == "train" else ("sample", run)))
    assert status == 2
    assert err.startswith(f"Error: {run}: no checkpoint can be used. {run}/checkpoints/30.safetensors: damaged (")
    assert err.count("\n") == 1
    assert snapshot(run) == before


def test_damaged_first_lines_of_the_metrics_are_refused(run, call):
    flipped(run / "metrics.jsonl", 100)
    status, _, err = call("train", "--resume", "--out", run)
    assert status == 2
    assert err.startswith(f"Error: {run}: no checkpoint can be used. {run}/metrics.jsonl: damaged (")
    assert err.count("\n") == 1


def test_a_damaged_configuration_is_refused(run, call):
    path = run / "config.json"
    whole = path.read_bytes()
    told = json.loads(whole)
    others = [told | {"config": told["config"] | {"hidden": "16"}}, told | {"vocabulary": 3}, {}, [], 1]
    damaged = [json.dumps(other).encode() for other in others] + [b"[" * 9999, b"\xff", b""]
    damaged += [whole.replace(b'"learning_rate": 0.03', b'"learning_rate": 0.02')]
    for data in damaged:
        path.write_bytes(data)
        status, out, err = call("train", "--resume", "--out", run)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"Error: {path}: is none that this version of jaxlstm wrote, or is damaged (")


def test_the_two_newest_checkpoints_of_the_way_that_was_gone_are_kept(tmp_path):
    checkpoints = _checkpoints.Checkpoints(tmp_path)
    for step, kept in ((10, [10]), (20, [10, 20]), (30, [20, 30]), (25, [20, 25]), (27, [25, 27])):
        checkpoints.save(step, {"a": jnp.ones(2)})
        assert checkpoints.steps() == kept


def test_a_reader_takes_the_newest_that_is_there_when_it_looks(run, monkeypatch):
    """It listed checkpoints that the process that trains has since deleted."""
    checkpoints = _checkpoints.Checkpoints(run)
    now = iter([[5, 10], [20, 30], [20, 30]])
    monkeypatch.setattr(checkpoints, "steps", lambda: next(now))
    newest = checkpoints.newest()
    assert newest
    assert newest.step == 30


def test_a_score_that_is_not_finite_ends_the_run(text_file, tmp_path, call, monkeypatch):
    scores = iter([2.5, float("nan")])
    monkeypatch.setattr(_fit, "held_out_bits", lambda *_: next(scores))
    ends_with_step_10(call("train", text_file, "--out", tmp_path / "run", *OPTIONS), tmp_path / "run")


def test_parameters_that_are_not_finite_end_the_run(text_file, tmp_path, call, monkeypatch):
    train_step = _fit.train_step

    def spoiled(config, model, mesh, state, *args):
        state, result = train_step(config, model, mesh, state, *args)
        if state.step == 20:
            # Of a character that the held-out text lacks: no loss tells.
            embedding = state.params["params"]["Embed_0"]["embedding"]
            state.params["params"]["Embed_0"]["embedding"] = embedding.at[0].set(jnp.inf)
        return state, result

    monkeypatch.setattr(_fit, "train_step", spoiled)
    ends_with_step_10(call("train", text_file, "--out", tmp_path / "run", *OPTIONS), tmp_path / "run")


def ends_with_step_10(end: tuple[int, str, str], out: Path) -> None:
    status, _, err = end
    assert status == 1
    assert "lower --learning-rate" in err.splitlines()[-1]
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["10.safetensors"]
    for line in metrics(out).splitlines():
        json.loads(line, parse_constant=pytest.fail)
    assert _checkpoints.Checkpoints(out).newest()


def test_a_loss_that_explodes_ends_the_run_with_a_line(text_file, tmp_path, call):
    options = ["--steps", 9, "--hidden", 8, "--batch", 4, "--window", 16, "--learning-rate", 1e38, "--clip", 1e38]
    status, _, err = call("train", text_file, "--out", tmp_path / "run", *options)
    assert status == 1
    assert "lower --learning-rate" in err.splitlines()[-1]
    assert not (tmp_path / "run" / "checkpoints").exists()

"""`jaxlstm train` and `jaxlstm sample`, end to end: what they write, bad input, and that no death loses a run."""

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import optax
import pytest

from jaxlstm._write import unfinished
from jaxlstm.cli import _checkpoints, _compressors, _devices, _fit, _model, _run, _text, _windows, main

TEXT = "".join(f"{k}: the {'quick brown fox' if k % 3 else 'lazy dög'} jumps {k % 7} times\n" for k in range(50))
# Two layers with dropout, and a text short enough to be begun again within the steps.
OPTIONS = shlex.split(
    "--steps 30 --save-every 10 --hidden 16 --layers 2 --dropout 0.2 --batch 4 --window 16 --learning-rate 0.03"
)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(text_file, tmp_path_factory) -> Path:
    """The folder of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    with pytest.raises(SystemExit) as end:
        main(["train", str(text_file), "--out", str(out), *OPTIONS])
    assert not end.value.code
    return out


@pytest.fixture
def call(capsys):
    """Run the command line here: exit status, stdout, stderr."""

    def run(*args) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(list(map(str, args)))
        status = end.value.code or 0
        assert isinstance(status, int)
        return status, *capsys.readouterr()

    return run


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def metrics(out: Path) -> bytes:
    return (out / "metrics.jsonl").read_bytes()


def test_a_run_leaves_losses_picture_and_configuration(finished, text_file):
    lines = [json.loads(line) for line in metrics(finished).splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 31))
    losses = np.array([line["loss"] for line in lines])
    assert losses[0] == pytest.approx(np.log(len(set(TEXT))), rel=0.1)
    assert losses[-3:].mean() < losses[:3].mean() - 1
    np.testing.assert_allclose([line["bits_per_character"] for line in lines], losses / np.log(2))
    assert [line["step"] for line in lines if "held_out_bits_per_character" in line] == [10, 20, 30]

    picture = matplotlib.image.imread(finished / "loss.png")
    assert picture.shape[0] > 500
    assert picture.std() > 0.05
    config = json.loads((finished / "config.json").read_text())
    assert config["config"]["hidden"] == 16
    assert config["files"] == [str(text_file)]
    assert {path.name for path in finished.iterdir()} == {"config.json", "metrics.jsonl", "loss.png", "checkpoints"}


def test_the_report_compares_with_compressors(finished, call):
    status, out, _ = call("train", "--resume", "--out", finished)
    assert status == 0
    score = json.loads(metrics(finished).splitlines()[-1])["held_out_bits_per_character"]
    assert f"{score:.3f}" in out
    train_text, held_out = _text.split(TEXT)
    sticks = _compressors.yardsticks(train_text, held_out)
    assert list(sticks) == ["gzip", "bzip2", "xz"]
    for name, stick in sticks.items():
        assert name in out
        assert f"{stick.alone:.3f}" in out
        assert stick.alone == 8 * len(_compressors.COMPRESSORS[name](held_out.encode())) / len(held_out)
        assert 0 < stick.after < stick.alone


def test_the_held_out_score_counts_each_character_once(finished):
    record = _run.load(finished)
    model = _model.make_model(record.config, record.vocabulary)
    mesh = _devices.make_mesh()
    with _checkpoints.Checkpoints(finished, read_only=True) as checkpoints:
        state = checkpoints.restore(30, _model.state_shape(record.config, model, mesh))
    held_out = _text.encode("the fox ☃ jumps " * 9 + "the", record.vocabulary)
    assert (held_out == _text.UNKNOWN).sum() == 9
    windows = list(_windows.scored_windows(3, held_out, batch=4, window=16))
    assert len(windows) == 3
    score = _fit.held_out_bits(model, mesh, state, windows)

    # The same from one pass over each of the four stretches of 48 characters, of which the last has 3.
    stretches = np.split(np.append([3], held_out), [48, 96, 144])
    total = 9 * np.log2(0x110000)
    for k, inputs in enumerate(stretches):
        targets = held_out[48 * k : 48 * k + 48]
        logits, _ = model.apply(state.params, jnp.asarray(inputs[: len(targets)]))
        total -= np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), targets[:, None], 1).sum() / np.log(2)
    assert score == pytest.approx(total / len(held_out), rel=1e-5)


def test_windows_follow_each_other():
    windows = _windows.Windows(np.arange(1, 76, dtype=np.int32), batch=3, window=8)
    assert windows.per_pass == 3
    whole = np.concatenate([windows[step].inputs for step in range(3)])
    np.testing.assert_array_equal(whole.T.ravel(), np.arange(1, 73))
    for step in range(7):
        assert windows[step].begins == (step in (0, 3, 6))
        np.testing.assert_array_equal(windows[step].targets, windows[step].inputs + 1)
        np.testing.assert_array_equal(windows[step].inputs, windows[step % 3].inputs)


def test_the_state_is_carried_over_windows_and_cleared_for_each_pass(finished):
    record = _run.load(finished)
    model = _model.make_model(record.config, record.vocabulary)
    windows = _windows.Windows(_text.encode(_text.split(TEXT)[0], record.vocabulary), batch=4, window=16)
    assert windows.per_pass < 30
    mesh = _devices.make_mesh()
    for begins in (True, False):
        state = _model.init(record.config, model, mesh)
        zero, marked = (jax.tree.map(make, state.carry) for make in (jnp.zeros_like, jnp.ones_like))
        state = state._replace(carry=marked)
        want: Any = model.apply(state.params, windows[0].inputs, zero if begins else marked)
        no_dropout = dataclasses.replace(record.config, dropout=0.0)
        plain = _model.make_model(no_dropout, record.vocabulary)
        window = windows[0]._replace(begins=begins)
        after, _ = _model.train_step(no_dropout, plain, mesh, state, window, jnp.zeros(1, bool))
        for got, expected in zip(after.carry, want[1], strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-6)


def test_the_default_text_is_the_standard_library():
    text = _text.read_text([])
    assert text == _text.read_text([])
    assert len(text) > 2_000_000
    assert text.count("\n    def ") > 1000


def test_sample_repeats_itself_for_a_seed(finished, call):
    def text(*args) -> str:
        status, out, err = call("sample", finished, *args)
        assert (status, err) == (0, "")
        return out

    before = snapshot(finished)
    first = text("--prompt", "the ", "--length", 80, "--seed", 1)
    assert first.startswith("the ")
    assert len(first) == 4 + 80 + 1
    assert set(first) <= set(TEXT)
    assert text("--prompt", "the ", "--length", 80, "--seed", 1) == first
    assert text("--prompt", "the ", "--length", 80, "--seed", 2) != first
    surest = [text("--prompt", "the ", "--length", 80, "--temperature", 1e-4, "--seed", seed) for seed in (1, 2)]
    assert surest[0] == surest[1] != first
    assert text("--length", 80).startswith("\n")
    assert snapshot(finished) == before


def test_bfloat16_trains_and_carries_bfloat16(text_file, tmp_path, call):
    options = ["--steps", 2, "--hidden", 8, "--batch", 4, "--window", 16, "--dtype", "bfloat16"]
    status, _, _ = call("train", text_file, "--out", tmp_path / "run", *options)
    assert status == 0
    record = _run.load(tmp_path / "run")
    model = _model.make_model(record.config, record.vocabulary)
    state = _model.state_shape(record.config, model, _devices.make_mesh())
    assert {a.dtype for a in jax.tree.leaves(state.carry)} == {jnp.dtype(jnp.bfloat16)}
    assert {a.dtype for a in jax.tree.leaves(state.params)} == {jnp.dtype(jnp.float32)}


def test_clip_weight_decay_and_warm_up_are_used(finished):
    record = _run.load(finished)
    mesh, model = _devices.make_mesh(), _model.make_model(record.config, record.vocabulary)
    window = _windows.Windows(_text.encode(_text.split(TEXT)[0], record.vocabulary), batch=4, window=16)[0]
    before = jax.device_get(_model.init(record.config, model, mesh).params)

    def first_step(warmup: float) -> tuple[Any, float]:
        """The parameters' change, and the norm of the gradient that the optimizer saw, of which Adam keeps a tenth."""
        config = dataclasses.replace(record.config, clip=1e-3, weight_decay=1e4, warmup=warmup)
        state = _model.init(record.config, model, mesh)
        after, _ = _model.train_step(config, model, mesh, state, window, jnp.zeros(1, bool))
        seen = optax.tree.norm(optax.tree_utils.tree_get(after.opt_state, "mu")) / 0.1
        return jax.tree.map(np.subtract, jax.device_get(after.params), before), float(seen)

    change, norm = first_step(warmup=0.0)
    assert norm == pytest.approx(1e-3, rel=1e-4)
    # So strong a decay leaves nothing else to be seen: all of it at once, or none in a rate that rises from 0.
    decay = record.config.learning_rate * 1e4
    flat_change, flat_before = (np.concatenate([a.ravel() for a in jax.tree.leaves(tree)]) for tree in (change, before))
    assert flat_change @ flat_before == pytest.approx(-decay * flat_before @ flat_before, rel=1e-2)
    assert not any(np.any(d) for d in jax.tree.leaves(first_step(warmup=0.5)[0]))


def test_a_loss_that_explodes_ends_the_run_with_a_line(text_file, tmp_path, call):
    options = ["--steps", 9, "--hidden", 8, "--batch", 4, "--window", 16, "--learning-rate", 1e38, "--clip", 1e38]
    status, _, err = call("train", text_file, "--out", tmp_path / "run", *options)
    assert status == 1
    assert "--learning-rate" in err.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(number, finished, text_file, tmp_path, call, monkeypatch):
    train_step = _fit.train_step

    def interrupted(config, model, mesh, state, *args):
        if state.step == 14:
            signal.raise_signal(number)
        return train_step(config, model, mesh, state, *args)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(_fit, "train_step", interrupted)
        status, _, err = call("train", text_file, "--out", tmp_path / "a run", *OPTIONS)
    assert status == 130
    # The next step tells the others, and its result is read when the one after it is under way.
    assert "Step 17 of 30 is saved." in err
    assert len(metrics(tmp_path / "a run").splitlines()) == 17
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers

    command = shlex.split(err.splitlines()[-1].removeprefix("Go on with: "))
    assert command[0] == "jaxlstm"
    status, out, _ = call(*command[1:])
    assert status == 0
    assert "Going on from step 17 of 30." in out
    assert metrics(tmp_path / "a run") == metrics(finished)


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
        end = subprocess.run(command, env=os.environ | cache, capture_output=True, text=True, timeout=300)
        assert end.returncode == -signal.SIGKILL, end.stderr
        return end.stdout

    killed("os.rename", ".config.json", text_file, *OPTIONS)
    assert list(out.iterdir()) == unfinished(out / "config.json")
    said = killed("os.rename", ".metrics.jsonl", text_file, "--resume", *OPTIONS)
    assert "text and options are those given now" in said
    assert not (out / "metrics.jsonl").exists()
    said = killed("os.rename", "checkpoints/10.orbax-checkpoint-tmp", "--resume")
    assert "beginning anew at step 0" in said
    assert len(metrics(out).splitlines()) == 10
    status, _, err = call("sample", out)
    assert status == 2
    assert "no checkpoint yet" in err
    said = killed("os.mkdir", "20.orbax-checkpoint-tmp/default.orbax-checkpoint-tmp", "--resume")
    assert "beginning anew at step 0" in said
    said = killed("os.rmdir", "checkpoints/10", "--resume")
    assert "Going on from step 10 of 30." in said
    assert len(metrics(out).splitlines()) == 30
    said = killed("os.rename", ".loss.png", "--resume")
    assert "Going on from step 30 of 30." in said

    status, _, _ = call("train", "--resume", "--out", out)
    assert status == 0
    assert metrics(out) == metrics(finished)
    assert call("sample", out) == call("sample", finished)


def test_a_run_killed_from_outside_resumes_to_the_same_losses(finished, text_file, tmp_path, call):
    """SIGKILL between two steps, with lines in metrics.jsonl that no checkpoint has and one that is torn."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "jaxlstm", "train", text_file, "--out", out, *OPTIONS]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (out / "checkpoints" / "10").exists():
            time.sleep(0.01)
        process.kill()
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    assert call("train", "--resume", "--out", out)[0] == 0
    assert metrics(out) == metrics(finished)


def test_nothing_heavy_is_imported_before_the_input_is_known_to_be_good():
    code = (
        "import sys, jaxlstm\n"
        "assert 'jaxlstm.cli' not in sys.modules and 'click' not in sys.modules\n"
        "from jaxlstm.cli import main\n"
        "try: main(['train', '--steps', '0'])\n"
        "except SystemExit: print(sorted({'orbax', 'matplotlib', 'torch', 'rich.progress'} & set(sys.modules)))\n"
    )
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert end.stdout == "[]\n", end.stderr


BAD = {
    "missing": (["nowhere.txt"], "nowhere.txt: No such file or directory"),
    "a folder": (["folder"], "folder: Is a directory"),
    "empty": (["empty.txt"], "empty.txt: the file is empty"),
    "not UTF-8": (["latin-1.txt"], "latin-1.txt: not UTF-8 text (byte 0xe9 at offset 3)"),
    "one of two": (["text.txt", "empty.txt"], "empty.txt: the file is empty"),
    "too short": (["text.txt", "--batch", "64", "--window", "128"], "need 8,193 characters to train on"),
    "one character": (["tiny.txt", "--batch", "1", "--window", "1"], "need 2 characters to train on"),
    "a run there": (["text.txt", "--out", "run"], "--out run: holds a run already. Go on with it by --resume"),
    "files there": (["text.txt", "--out", "folder"], "--out folder: holds other files (empty.txt)"),
    "out is a file": (["text.txt", "--out", "text.txt"], "--out text.txt: Not a directory"),
    "out in a file": (["text.txt", "--out", "text.txt/run"], "--out text.txt/run: Not a directory"),
    "out not writable": (["text.txt", "--out", "/proc/jaxlstm", *OPTIONS], "--out /proc/jaxlstm: can't be written"),
    "resume nothing": (["--resume", "--out", "nowhere"], "nowhere: holds no run"),
    "resume no run": (["--resume", "--out", "folder"], "folder: holds no run"),
    "resume differently": (["--resume", "--out", "run", "--hidden", "17"], "--hidden 17: the run in run began with 16"),
    "resume another text": (["other.txt", "--resume", "--out", "run"], "other.txt: not the text"),
    "a torn configuration": (["--resume", "--out", "torn"], "config.json: is none that this version of jaxlstm wrote"),
    "steps 0": (["text.txt", "--steps", "0"], "--steps 0: expected a whole number of at least 1"),
    "hidden -1": (["text.txt", "--hidden", "-1"], "--hidden -1: expected"),
    "window 1.5": (["text.txt", "--window", "1.5"], "'--window': '1.5' is not a valid integer"),
    "rate NaN": (["text.txt", "--learning-rate", "nan"], "--learning-rate nan: expected a number above 0"),
    "clip infinite": (["text.txt", "--clip", "inf"], "--clip inf: expected a number above 0"),
    "warm-up 2": (["text.txt", "--warmup", "2"], "--warmup 2.0: expected a number from 0 to 1"),
    "dropout 1.5": (["text.txt", "--layers", "2", "--dropout", "1.5"], "--dropout 1.5: expected a number from 0 to 1"),
    "idle dropout": (["text.txt", "--dropout", "0.1"], "--dropout 0.1: it acts between layers, and --layers is 1"),
    "dtype": (["text.txt", "--dtype", "int8"], "--dtype int8: expected float32 or bfloat16"),
    "seed": (["text.txt", "--seed", "-1"], "--seed -1: expected a whole number from 0"),
    "unknown option": (["text.txt", "--hiden", "3"], "No such option"),
    "sample nothing": (["sample", "nowhere"], "nowhere: holds no run"),
    "sample unfinished": (["sample", "begun"], "begun: the run has no checkpoint yet"),
    "sample, temperature": (["sample", "run", "--temperature", "0"], "--temperature 0.0: expected a number above 0"),
    "sample, NaN": (["sample", "run", "--temperature", "nan"], "--temperature nan: expected a number above 0"),
    "sample, length": (["sample", "run", "--length", "0"], "'--length': 0 is not in the range"),
    "sample, prompt": (["sample", "run", "--prompt", "☃"], r"--prompt: the training text has no '\u2603'"),
    "sample, no prompt": (["sample", "run", "--prompt", ""], "--prompt: expected at least one character"),
    "unknown command": (["trian"], "No such command 'trian'"),
}


@pytest.fixture
def desk(finished, tmp_path, monkeypatch) -> Path:
    """A working directory with everything that `BAD` names."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "other.txt").write_text(TEXT[:-1] + "!", encoding="utf-8")
    (tmp_path / "latin-1.txt").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "tiny.txt").write_text("a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "empty.txt").touch()
    (tmp_path / "run").symlink_to(finished)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_bytes((finished / "config.json").read_bytes())
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_bytes((finished / "config.json").read_bytes()[:-9])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_touches_nothing(name, desk, finished, call):
    args, words = BAD[name]
    before = snapshot(desk), snapshot(finished)
    status, out, err = call(*(args if args[0] in ("sample", "trian") else ["train", *args]))
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert (snapshot(desk), snapshot(finished)) == before

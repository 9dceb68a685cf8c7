"""`jaxlstm train`: what a run leaves, what it is scored on, and that its steps do what they are told."""

import dataclasses
import itertools
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import optax
import pytest
from runs import TEXT, metrics

from jaxlstm.cli import _checkpoints, _compressors, _devices, _fit, _model, _plot, _progress, _run, _text, _windows


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
    files = {".lock", "config.json", "metrics.jsonl", "loss.png", "checkpoints"}
    assert {path.name for path in finished.iterdir()} == files
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"20.safetensors", "30.safetensors"}


def test_the_report_compares_with_compressors(finished, call):
    status, out, err = call("train", "--resume", "--out", finished)
    assert status == 0
    assert err == "Compressing the text with gzip, bzip2, xz to compare, and drawing the losses.\n"
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


def test_a_run_that_is_worse_than_guessing_says_so(tmp_path, call):
    text = tmp_path / "text.txt"
    text.write_text("ab" * 480 + "c")  # Of the 48 characters held out, one is unknown.
    options = ["--steps", 8, "--hidden", 8, "--batch", 4, "--window", 16]
    status, _, err = call("train", text, "--out", tmp_path / "bad", "--learning-rate", 1000, *options)
    assert status == 0
    guess = np.log2(3) + np.log2(0x110000) / 48
    assert f"Worse than guessing: each character alike would take {guess:.3f} bits" in err
    assert "lower --learning-rate" in err
    assert "guessing" not in call("train", text, "--out", tmp_path / "good", "--learning-rate", 0.03, *options)[2]


def test_the_held_out_score_counts_each_character_once(finished):
    record = _run.load(finished)
    model = _model.make_model(record.config, record.vocabulary)
    mesh = _devices.make_mesh()
    saved = _checkpoints.Checkpoints(finished).read(30)
    state = _checkpoints.restored(saved, _model.state_shape(record.config, model, mesh))
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


def test_the_picture_shows_the_compressors_both_ways(finished):
    sticks = {"gzip": _compressors.Yardstick(3.25, 2.5), "bzip2": _compressors.Yardstick(3.0, 2.25)}
    (axes,) = _plot.draw(_run.read_metrics(finished), sticks).axes
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()) for line in axes.lines}
    legend = axes.get_legend()
    assert legend
    labels = [label.get_text() for label in legend.get_texts()]
    for name, stick in sticks.items():
        for value, way in ((stick.after, "behind the training text"), (stick.alone, "alone")):
            label = f"{name}, held-out text {way}, {value:.2f}"
            assert label in labels
            assert (drawn[label] == value).all()


def test_a_twentieth_of_the_text_is_held_out_its_end():
    for length, held_out in ((1000, 50), (1771, 89), (5, 1)):
        text = "".join(chr(k) for k in range(97, 97 + length))
        assert _text.split(text) == (text[:-held_out], text[-held_out:])


def test_lines_of_progress_come_every_few_seconds_where_no_terminal_is(monkeypatch, capsys):
    clock = iter([0.5, 5.5, 6.0, 7.0])
    monkeypatch.setattr(_progress.time, "monotonic", lambda: next(clock))
    with _progress.progress(total=1000, done=100, unit="char") as tell:
        for done in (200, 650, 700, 1000):
            tell(done, f"{done // 100}/10")
    assert capsys.readouterr().err == (
        " 20%  2/10\n"  # What was first done took a compilation, from which no speed is to be had.
        " 65%  6/10  90 char/s, 0:00:04 left\n"
        "100%  10/10  123 char/s, 0:00:00 left\n"
    )


def test_progress_fits_80_columns_of_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    clock = itertools.count(step=7.0)
    monkeypatch.setattr("rich.console.monotonic", lambda: next(clock))
    with _progress.progress(total=10**8, unit="char", refresh_per_second=1e-3) as tell:
        for step in (1, 100_000, 200_000):
            tell(step * 100, f"{step}/1000000  scoring held-out text")
    last = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", capsys.readouterr().err).replace("\r", "\n").rstrip().splitlines()[-1]
    assert re.search(r"200000/1000000  scoring held-out text [\d,]+ char/s, [\d:]+ left$", last.rstrip())
    assert len(last) <= 80


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
        after, _ = _model.train_step(no_dropout, plain, mesh, state, window, jnp.zeros(1, jnp.int32))
        for got, expected in zip(after.carry, want[1], strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-6)


def test_the_default_text_is_the_standard_library():
    text = _text.read_text([])
    assert text == _text.read_text([])
    assert len(text) > 2_000_000
    assert text.count("\n    def ") > 1000


def test_bfloat16_trains_and_carries_bfloat16(text_file, tmp_path, call):
    options = ["--steps", 2, "--hidden", 8, "--batch", 4, "--window", 16, "--dtype", "bfloat16"]
    status, _, err = call("train", text_file, "--out", tmp_path / "run", *options)
    assert status == 0
    assert "2/2" in err
    assert "compiling" in err.splitlines()[0]
    assert "scoring held-out text" in err
    last = json.loads(metrics(tmp_path / "run").splitlines()[-1])
    bits, held_out = last["bits_per_character"], last["held_out_bits_per_character"]
    assert f"Step 2 is saved: {bits:.3f} bits per character in training, {held_out:.3f} held out.\n" in err
    assert _checkpoints.Checkpoints(tmp_path / "run").read(2).arrays["carry.h"].dtype == jnp.bfloat16
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
        after, _ = _model.train_step(config, model, mesh, state, window, jnp.zeros(1, jnp.int32))
        seen = optax.tree.norm(optax.tree_utils.tree_get(after.opt_state, "mu")) / 0.1
        return jax.tree.map(np.subtract, jax.device_get(after.params), before), float(seen)

    change, norm = first_step(warmup=0.0)
    assert norm == pytest.approx(1e-3, rel=1e-4)
    # So strong a decay leaves nothing else to be seen: all of it at once, or none in a rate that rises from 0.
    decay = record.config.learning_rate * 1e4
    flat_change, flat_before = (np.concatenate([a.ravel() for a in jax.tree.leaves(tree)]) for tree in (change, before))
    assert flat_change @ flat_before == pytest.approx(-decay * flat_before @ flat_before, rel=1e-2)
    assert not any(np.any(d) for d in jax.tree.leaves(first_step(warmup=0.5)[0]))

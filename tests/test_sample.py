"""What a trained run is good for: `jaxlstm sample`, `load_run`, `jaxlstm inspect` and `jaxlstm convert`."""

import json
import shutil
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import TEXT, held_out_scores, snapshot

import jaxlstm
from jaxlstm.cli import _model, _run, _text, load_run
from jaxlstm.interop import load_safetensors


def test_sample_repeats_itself_for_a_seed(finished, call):
    def text(*args) -> str:
        status, out, err = call("sample", finished, *args)
        assert (status, err) == (0, "From the checkpoint of step 30 of 30.\n")
        return out

    before = snapshot(finished)
    first = text("--prompt", "the ", "--length", 80, "--seed", 1)
    assert first.startswith("the ")
    assert len(first) == 4 + 80 + 1
    assert set(first) <= set(TEXT)
    assert text("--prompt", "the ", "--length", 80, "--seed", 1) == first
    assert text("--prompt", "the ", "--length", 80, "--seed", 2) != first
    assert text("--length", 80).startswith("\n")
    assert snapshot(finished) == before


def test_the_surest_sample_takes_the_likeliest_character_each_time(finished, call):
    module, params, vocabulary = load_run(finished)
    text, state = "the ", None
    ids = jnp.asarray(_text.encode(text, vocabulary))
    for _ in range(20):
        logits, state = module.apply(params, ids, state)
        ids = logits[-1:, 1:].argmax(axis=-1) + 1
        text += vocabulary[int(ids[0]) - 1]
    for temperature in (0, 1e-40, 1e-30):
        options = "--prompt", "the ", "--length", 20, "--temperature", temperature, "--seed", 3
        assert call("sample", finished, *options)[:2] == (0, f"{text}\n")


def test_of_equally_likely_characters_temperature_0_takes_the_first(finished):
    record, (_, params, _) = _run.load(finished), load_run(finished)
    params["params"]["Dense_0"] = jax.tree.map(jnp.zeros_like, params["params"]["Dense_0"])
    model = _model.make_model(record.config, record.vocabulary)
    ids = _model.generate(model, params, jnp.array([3]), jax.random.key(0), 0.0, length=10)
    assert set(ids.tolist()) == {_text.UNKNOWN + 1}


def test_the_unknown_character_is_never_drawn(finished):
    record, (_, params, _) = _run.load(finished), load_run(finished)
    dense = params["params"]["Dense_0"]
    dense["bias"] = dense["bias"].at[_text.UNKNOWN].set(1e9)
    model = _model.make_model(record.config, record.vocabulary)
    for temperature in (0.0, 1.0, 1e6):
        ids = _model.generate(model, params, jnp.array([3]), jax.random.key(0), temperature, length=100)
        assert ids.min() > _text.UNKNOWN
        assert len(set(ids.tolist())) > 20 or temperature < 1e6


def test_the_default_run_is_sampled_unless_another_is_named(finished, call, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "train").symlink_to(finished)
    monkeypatch.chdir(tmp_path)
    assert call("sample", "--length", 20) == call("sample", finished, "--length", 20)


def test_load_run_gives_what_scored_so_well(finished):
    module, params, vocabulary = load_run(finished)
    text, held_out = _text.split(TEXT)
    assert vocabulary == "".join(sorted(set(text)))
    ids = jnp.array([vocabulary.index(character) + 1 for character in text[-1:] + held_out])
    # Of the four stretches that are scored side by side, each with a state of its own.
    bits = 0.0
    for k in range(0, len(held_out), 32):
        inputs, targets = ids[:-1][k : k + 32], ids[1:][k : k + 32]
        logits, _ = module.apply(params, inputs)
        bits -= float(jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=1).sum()) / np.log(2)
    assert bits / len(held_out) == pytest.approx(held_out_scores(finished)[30], rel=1e-5)
    lstm = jaxlstm.from_named_parameters(params["params"]["lstm"])
    assert len(lstm) == 2
    assert lstm[0][0].weight_hh.shape == (64, 16)


def test_load_runs_example_runs(finished):
    assert load_run.__doc__
    _, _, code = load_run.__doc__.partition("After `jaxlstm train`:")
    variables: dict[str, Any] = {}
    exec(textwrap.dedent(code).replace("runs/train", str(finished)), variables)
    assert variables["next_character"] in variables["vocabulary"]


def test_load_run_says_what_is_missing(finished, tmp_path):
    with pytest.raises(ValueError, match="nowhere: holds no run of jaxlstm train"):
        load_run(tmp_path / "nowhere")
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ValueError, match="run: the run has no checkpoint yet"):
        load_run(tmp_path / "run")


def test_inspect_and_convert_read_a_run(finished, call, tmp_path):
    status, out, _ = call("inspect", finished)
    assert status == 0
    rows = [" ".join(line.split()) for line in out.splitlines() if "lstm" in line]
    assert rows == ["params.params.lstm LSTM 2 1 64 to 16 float32"]
    for words in ((), ("--prefix", "params.params.lstm")):
        status, out, _ = call("convert", finished, tmp_path / "out.safetensors", *words)
        assert (status, out) == (
            0,
            f"{tmp_path}/out.safetensors: LSTM, layers 2, directions 1, sizes 64 to 16, float32.\n"
            "Only the LSTM is converted: the embedding, the output layer and the vocabulary stay in the run.\n"
            "Its names are without the prefix 'params.params.lstm.'.\n",
        )
        converted = load_safetensors(tmp_path / "out.safetensors")
        expected = load_run(finished).params["params"]["lstm"]
        for name, leaf in jaxlstm.named_parameters(converted).items():
            np.testing.assert_array_equal(leaf, expected[name])
    assert call("inspect", tmp_path)[0] == 2


def test_a_run_goes_on_to_more_steps_and_says_at_which_rate(finished, call, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    status, _, err = call("train", "--resume", "--out", run, "--steps", 20)
    assert (status, err.count("\n")) == (2, 1)
    assert f"--steps 20: the run in {run} has 30, and it can only go on to more." in err

    status, out, _ = call("train", "--resume", "--out", run, "--steps", 40)
    assert status == 0
    config = _run.load(run).config
    assert config.steps == 40
    rate = float(np.asarray(_model.learning_rate(config)(30)))
    assert rate > 1e-3
    assert f"at step 30 it is {rate:.2g}, where it was to be 0." in " ".join(out.split())
    assert "Going on from step 30 of 40." in out
    before, after = ((each / "metrics.jsonl").read_bytes().splitlines() for each in (finished, run))
    assert after[:30] == before
    assert [json.loads(line)["step"] for line in after] == list(range(1, 41))
    assert "Finished already, at step 40 of 40." in call("train", "--resume", "--out", run)[1]

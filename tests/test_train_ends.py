"""How a run of `jaxlstm train` ends before its time, by a signal or for want of a place to write, and goes on again."""

import resource
import shlex
import shutil
import signal

import pytest
from runs import OPTIONS, metrics

from jaxlstm.cli import _fit, _signals

ENDS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture
def at_step_14(monkeypatch):
    """Have something done as step 15 begins, the first time."""

    def patch(act) -> None:
        train_step, acts = _fit.train_step, [act]

        def acting(config, model, mesh, state, *args):
            if state.step == 14 and acts:
                acts.pop()()
            return train_step(config, model, mesh, state, *args)

        monkeypatch.setattr(_fit, "train_step", acting)

    return patch


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_saves_and_says_how_to_go_on(number, finished, text_file, tmp_path, call, at_step_14):
    before = {number: signal.getsignal(number) for number in ENDS}
    at_step_14(lambda: signal.raise_signal(number))
    status, _, err = call("train", text_file, "--out", tmp_path / "a run", *OPTIONS)
    assert status == ENDS[number]
    # The next step tells the others, and its result is read when the one after it is under way.
    assert "Step 17 of 30 is saved." in err
    assert len(metrics(tmp_path / "a run").splitlines()) == 17
    assert {number: signal.getsignal(number) for number in ENDS} == before

    command = shlex.split(err.splitlines()[-1].removeprefix("Go on with: "))
    assert command[0] == "jaxlstm"
    status, out, _ = call(*command[1:])
    assert status == 0
    assert "Going on from step 17 of 30." in out
    assert metrics(tmp_path / "a run") == metrics(finished)


def test_the_second_signal_does_what_it_did_before_and_an_ignored_one_nothing():
    came = []
    before = {number: signal.getsignal(number) for number in ENDS}
    try:
        signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with _signals.noted() as noted:
            signal.raise_signal(signal.SIGHUP)
            assert noted == []
            signal.raise_signal(signal.SIGTERM)
            assert (noted, came) == ([signal.SIGTERM], [])
            signal.raise_signal(signal.SIGTERM)
            assert (noted, came) == ([signal.SIGTERM], [signal.SIGTERM])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("change", [shutil.rmtree, lambda out: out.rename(out.with_name("elsewhere"))])
def test_a_folder_that_is_gone_ends_the_run_in_a_line(change, text_file, tmp_path, call, at_step_14):
    out = tmp_path / "run"
    at_step_14(lambda: change(out))
    status, _, err = call("train", text_file, "--out", out, *OPTIONS)
    assert status == 1
    assert err.splitlines()[-1] == f"Error: {out}/checkpoints: No such file or directory."
    assert not out.exists()
    elsewhere = tmp_path / "elsewhere"
    if elsewhere.exists():
        status, said, _ = call("train", "--resume", "--out", elsewhere)
        assert "Going on from step 10 of 30." in said


def test_a_full_disk_ends_the_run_in_a_line_and_loses_nothing(finished, text_file, tmp_path, call, at_step_14):
    out, limits = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (finished / "checkpoints" / "30.safetensors").stat().st_size
    at_step_14(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, limits[1])))
    try:
        status, _, err = call("train", text_file, "--out", out, *OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1
    assert err.splitlines()[-1] == f"Error: {out}/checkpoints/20.safetensors: File too large."
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["10.safetensors"]
    assert call("train", "--resume", "--out", out)[0] == 0
    assert metrics(out) == metrics(finished)


def test_losses_that_cannot_be_written_end_the_run_in_a_line(finished, text_file, tmp_path, call, at_step_14):
    out, limits = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    at_step_14(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (len(metrics(out)) + 7, limits[1])))
    try:
        status, _, err = call("train", text_file, "--out", out, *OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1
    assert err.splitlines()[-1] == f"Error: {out}/metrics.jsonl: File too large."
    assert call("train", "--resume", "--out", out)[0] == 0
    assert metrics(out) == metrics(finished)

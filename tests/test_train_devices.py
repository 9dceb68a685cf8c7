"""`jaxlstm train` on two devices and in two processes: one device's losses, and what becomes of a lost process."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from runs import STRICT

from jaxlstm.cli import _stderr, main

TEXT = "".join(f"{k}: the {'quick brown fox' if k % 3 else 'lazy dog'} jumps {k % 7} times\n" for k in range(50))
OPTIONS = shlex.split("--steps 12 --save-every 5 --hidden 8 --batch 4 --window 16 --learning-rate 0.03")

# `jaxlstm train`, in which a signal comes as step 7 begins, after SIGSTOP silence soon counts as death, and processes
# say when they part.
TRAIN = """
import os, sys
import jax
from jaxlstm.cli import _fit, _processes, main

number = int(sys.argv[1])
train_step, shutdown = _fit.train_step, jax.distributed.shutdown

def signalled(config, model, mesh, state, *args):
    if number and state.step == 6:
        os.kill(os.getpid(), number)
    return train_step(config, model, mesh, state, *args)

def said():
    print("Parting.")
    shutdown()

_fit.train_step, jax.distributed.shutdown = signalled, said
_processes.PATIENCE = int(sys.argv[2])
main(["train", *sys.argv[3:]])
"""


class End(NamedTuple):
    """Of a process."""

    status: int
    out: str
    err: str

    @classmethod
    def of(cls, process: subprocess.Popen) -> "End":
        out, err = process.communicate(timeout=300)
        return cls(process.returncode, out, err)


class Runs:
    """Runs of `jaxlstm train` on one text in processes of their own, each killed if it does not end."""

    def __init__(self, folder: Path):
        self.folder, self.text = folder, folder / "text.txt"
        self.text.write_text(TEXT)
        self.caches = folder / "cache of 0", folder / "cache of 1"
        self.caches[0].mkdir()

    @contextlib.contextmanager
    def _started(self, *args, number: int, patience: int = 60, rank: int = 0) -> Iterator[subprocess.Popen]:
        command = [sys.executable, "-W", "error", "-c", TRAIN, *map(str, (int(number), patience, *args))]
        env = os.environ | STRICT | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        env |= {"JAX_COMPILATION_CACHE_DIR": str(self.caches[rank])}
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=env, cwd=self.folder, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def one(self, *args, number: int = 0) -> End:
        """One process, to which the signal of that number comes."""
        with self._started(*args, number=number) as process:
            return End.of(process)

    def two(self, *args, numbers: Sequence[int] = (0, 0), second: Sequence = ()) -> tuple[End, End]:
        """Two processes, and the signal that comes to each; `second` are further arguments of the second."""
        patience = 20 if signal.SIGSTOP in numbers else 60  # The coordinator's counts.
        # JAX's first process alone writes what is compiled, and not at once: who reads meanwhile finds half of it.
        shutil.copytree(*self.caches, dirs_exist_ok=True)
        for _ in range(3):
            team = *args, "--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", 2, "--process-id"
            with (
                self._started(*team, 0, number=numbers[0], patience=patience) as process_0,
                self._started(*team, 1, *second, number=numbers[1], patience=patience, rank=1) as process_1,
            ):
                end_0 = End.of(process_0)
                if "can't listen" in end_0.err:  # Another program was faster.
                    continue
                if numbers[1] == signal.SIGSTOP:
                    process_1.kill()
                return end_0, End.of(process_1)
        raise AssertionError("no port stays free")

    def losses(self, out: str) -> list[float]:
        """Training and held-out losses, as long as the lines are those of the steps from 1."""
        lines = [json.loads(line) for line in (self.folder / out / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
        held_out = "held_out_bits_per_character"
        return [line["loss"] for line in lines] + [line[held_out] for line in lines if held_out in line]


def assert_ended(ends: Sequence[End], statuses: Sequence[int]) -> None:
    assert [end.status for end in ends] == statuses, "\n".join(map(str, ends))  # A string is printed whole.


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("devices"))


@pytest.fixture(scope="module")
def expected(runs) -> list[float]:
    """The losses of one process on one device."""
    end = runs.one(runs.text, "--out", "alone", "--devices", 1, *OPTIONS)
    assert end.status == 0, end.err
    losses = runs.losses("alone")
    assert len(losses) == 12 + 3
    assert losses[11] < losses[0] - 0.5
    return losses


def test_two_devices_give_the_losses_of_one_and_resume_exactly(runs, expected):
    options = runs.text, "--devices", 2, *OPTIONS
    end = runs.one(*options, "--out", "two devices")
    assert end.status == 0, end.err
    np.testing.assert_allclose(runs.losses("two devices"), expected, rtol=1e-5)

    assert runs.one(*options, "--out", "killed", number=signal.SIGKILL).status == -signal.SIGKILL
    end = runs.one("--resume", "--out", "killed", "--devices", 2)
    assert "Going on from step 5 of 12." in end.out
    assert runs.losses("killed") == runs.losses("two devices")


def test_two_processes_give_the_losses_of_one(runs, expected, capsys):
    ends = runs.two(runs.text, "--out", "two", *OPTIONS)
    assert_ended(ends, [0, 0])
    np.testing.assert_allclose(runs.losses("two"), expected, rtol=1e-5)
    assert "Text: " in ends[0].out
    assert "12/12" in ends[0].err
    assert ends[0].out.index("A sample:") < ends[0].out.index("Parting.")
    assert "Text: " not in ends[1].out
    assert ends[1].err == ""
    folder = {path.name for path in (runs.folder / "two").iterdir()}
    assert folder == {".lock", "config.json", "metrics.jsonl", "loss.png", "checkpoints"}
    with pytest.raises(SystemExit) as end:
        main(["sample", str(runs.folder / "two"), "--length", "500"])
    assert not end.value.code
    assert capsys.readouterr().out in ends[0].out  # It ends with the same sample.


@pytest.fixture(scope="module")
def of_two(runs) -> list[float]:
    """The losses of two processes that nothing disturbed."""
    ends = runs.two(runs.text, "--out", "undisturbed", *OPTIONS)
    assert_ended(ends, [0, 0])
    return runs.losses("undisturbed")


def test_a_report_that_fails_is_the_first_processs_error_alone(runs, of_two):
    picture = runs.folder / "undisturbed" / "loss.png"
    picture.unlink()
    picture.mkdir()
    ends = runs.two("--resume", "--out", "undisturbed")
    assert_ended(ends, [1, 0])
    assert ends[0].err.splitlines()[-1].startswith("Error: ")
    assert "loss.png" in ends[0].err.splitlines()[-1]
    assert ends[1].err == ""
    assert runs.losses("undisturbed") == of_two


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [((0, signal.SIGKILL), 1), ((signal.SIGKILL, 0), 0), ((0, signal.SIGSTOP), 1)],
    ids=["killed", "the first killed", "silent"],
)
def test_a_lost_process_ends_the_other_with_a_line_and_the_run_resumes(numbers, lost, runs, of_two):
    """In two processes to the losses of two that nothing disturbed, bit for bit."""
    out = f"lost {numbers}"
    ends = runs.two(runs.text, "--out", out, *OPTIONS, numbers=numbers)
    assert ends[lost].status == -signal.SIGKILL
    assert ends[1 - lost].status in (1, -signal.SIGABRT)
    *progress, said = ends[1 - lost].err.splitlines()
    assert said.startswith("Error: another process of the run is lost")
    assert all("/12  " in line or line.startswith("Step ") or not line.strip() for line in progress), progress
    ends = runs.two("--resume", "--out", out)
    assert_ended(ends, [0, 0])
    assert "Going on from step 5 of 12." in ends[0].out
    assert runs.losses(out) == of_two


@pytest.mark.parametrize(
    ("numbers", "status"), [((0, signal.SIGTERM), 143), ((signal.SIGHUP, 0), 129)], ids=["SIGTERM", "SIGHUP"]
)
def test_a_signal_to_one_process_stops_both_and_saves_what_one_goes_on_with(numbers, status, runs, expected):
    out = f"stopped {status}"
    ends = runs.two(runs.text, "--out", out, *OPTIONS, numbers=numbers)
    assert_ended(ends, [status, status])
    assert "Step 9 of 12 is saved." in ends[0].err
    assert ends[1].err == ""
    end = runs.one("--resume", "--out", out)
    assert end.status == 0, end.err
    assert "Going on from step 9 of 12." in end.out
    np.testing.assert_allclose(runs.losses(out), expected, rtol=1e-5)


def test_processes_that_are_told_different_things_all_refuse(runs):
    ends = runs.two(runs.text, "--out", "different", *OPTIONS, second=("--seed", 3))
    words = "Error: The processes were given different texts or options. Give all of them the same.\n"
    assert [(end.status, end.err) for end in ends] == [(2, words)] * 2
    assert not (runs.folder / "different").exists()


def test_a_batch_that_does_not_divide_is_refused(runs):
    end = runs.one(runs.text, "--out", "uneven", "--devices", 3, *OPTIONS)
    words = "Error: --batch 4: 3 devices can't share it evenly. Give a multiple of 3, or another number of --devices.\n"
    assert end == End(2, "", words)
    assert not (runs.folder / "uneven").exists()


BAD = {
    "no devices": ("--devices 0", "'--devices': 0 is not in the range"),
    "too late": ("--devices 7", "--devices 7: JAX runs in this process already"),
    "coordinator alone": ("--coordinator a:1", "--num-processes and --process-id: missing"),
    "no coordinator": ("--num-processes 2 --process-id 0", "--coordinator: missing"),
    "no port": ("--coordinator a --num-processes 2 --process-id 1", "--coordinator a: expected HOST:PORT"),
    "port": ("--coordinator a:70000 --num-processes 2 --process-id 1", "--coordinator a:70000: expected HOST:PORT"),
    "id": ("--coordinator a:1 --num-processes 2 --process-id 2", "--process-id 2: expected 0 to 1"),
    "negative id": ("--coordinator a:1 --num-processes 2 --process-id -1", "'--process-id': -1 is not in the range"),
    "port taken": ("--coordinator 127.0.0.1:{} --num-processes 2 --process-id 0", "can't listen at port"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_get_one_line_and_touch_nothing(name, tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT)
    options, words = BAD[name]
    jax.devices()
    with socket.create_server(("", 0)) as server:
        args = [*OPTIONS, *options.format(server.getsockname()[1]).split()]
        with pytest.raises(SystemExit) as end:
            main(["train", str(tmp_path / "text.txt"), "--out", str(tmp_path / "run"), *args])
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


ABORT = [
    "W1123 11:58:53.7 1 coordination_service_agent.cc:288] Polled an error.\n",
    "of two lines\n",
    "F1123 11:58:53.7 1 client.h:86] Terminating process because the JAX distributed service detected fatal errors.\n",
]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["CUDA is out of memory\n"], "CUDA is out of memory\n"),
        (["before\n", *ABORT[:2], "after\n"], f"before\n{ABORT[0]}of two lines\nafter\n"),
        (["before\n", *ABORT, "  @ 0x7f\n"], "before\nError: another process of the run is lost (its connection "),
        (
            [*ABORT, "RPC: /xla.coordination.CoordinationService/RegisterTask\n"],
            "Error: not all processes came together at a:1",
        ),
        ([f"{_stderr.LOST} reset by peer\n"], "Error: another process of the run is lost (reset by peer)"),
        ([*ABORT, f"{_stderr.LOST} reset by peer\n"], "Error: another process of the run is lost (reset by peer)"),
    ],
)
def test_native_words_pass_but_those_of_a_lost_process_become_a_line(lines, words, capsys):
    _stderr.main(lines, "a:1")
    err = capsys.readouterr().err
    assert err.startswith(words)
    assert err.count("\n") == words.count("\n") + ("Error" in words)

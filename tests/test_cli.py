"""The door of the command line: what goes wrong is a line and a status, wherever it is written, and nothing is lost."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import OPTIONS, STRICT, TEXT, metrics, python, snapshot

from jaxlstm.cli import _door, _run

JAXLSTM = sys.executable, "-W", "error", "-m", "jaxlstm"


def test_help_waits_for_no_import_and_cuts_no_description():
    code = """
import sys
from jaxlstm.cli import main
for command in ([], *([name] for name in sys.argv[1:])):
    try: main([*command, "--help"])
    except SystemExit as end: assert not end.code
try: main(["train", "--steps", "0"])
except SystemExit as end: assert end.code == 2
print(sorted({"jax", "flax", "optax", "rich", "matplotlib", "safetensors"} & set(sys.modules)))
"""
    end = python(code, *_door.COMMANDS, COLUMNS="80")
    assert end.stdout.endswith("\n[]\n"), end.stderr
    words = " ".join(end.stdout.split())
    assert "..." not in words.replace("[FILE]...", "").replace("[ARGS]...", "").replace("[BxTxIxH[xL[xD]]]...", "")
    for name, entry in _door.COMMANDS.items():
        assert f"{name} {entry.help}" in words


def test_a_missing_package_is_named_with_what_brings_it():
    for name in ("click", "rich", "matplotlib"):
        command = "['--help']" if name == "click" else "['bench', '2x3x4x5', '--plot', 'a.png']"
        end = python(f"import sys; sys.modules[{name!r}] = None; from jaxlstm.cli import main; main({command})")
        assert (end.returncode, end.stdout) == (1, "")
        assert end.stderr == f"Error: the command line needs {name}: pip install 'jaxlstm[cli]'\n"


@pytest.mark.parametrize("module", ["click", "numpy", "jaxlib._jax", "flax.core", "jaxlstm.cli._fit"])
def test_ctrl_c_ends_in_a_line_whatever_is_being_imported(module, text_file, tmp_path):
    code = """
import os, signal, sys

def interrupt(event, args):
    if event == "import" and args[0] == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGINT)

from jaxlstm.cli import main
sys.addaudithook(interrupt)
main(["train", *sys.argv[2:]])
"""
    end = python(code, module, text_file, "--out", tmp_path / "run", *OPTIONS)
    assert (end.returncode, end.stdout, end.stderr) == (130, "", "Interrupted.\n")
    assert not (tmp_path / "run").exists()


def shell(command: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """A shell's command; $0 is jaxlstm, and $1, ... are the arguments."""
    words = ["sh", "-c", command.replace("jaxlstm", " ".join(map('"{}"'.format, JAXLSTM))), "sh", *map(str, args)]
    return subprocess.run(words, env=os.environ | STRICT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("command", ["sample", "train --resume --out"])
def test_standard_output_that_cannot_be_written_is_told_in_a_line(command, finished):
    before = metrics(finished)
    end = shell(f'jaxlstm {command} "$1" > /dev/full', finished)
    assert end.returncode == 1
    assert end.stderr.splitlines()[-1] == "Error: standard output: No space left on device."
    assert "Traceback" not in end.stderr
    assert metrics(finished) == before


def test_a_closed_standard_output_is_told_in_a_line(finished):
    for words in ("--help >&-", 'sample "$1" >&-'):
        end = shell(f"jaxlstm {words}", finished)
        assert (end.returncode, end.stderr) == (1, "Error: standard output: Bad file descriptor.\n")
    # One that nobody reads any more: its reader has ended before the writer begins.
    read, write = os.pipe()
    os.close(read)
    end = subprocess.run([*JAXLSTM, "--help"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(write)
    assert (end.returncode, end.stderr) == (1, "Error: standard output: Broken pipe.\n")


@pytest.mark.parametrize("where", ["/dev/full", "&-"])
def test_a_run_goes_on_without_a_terminal_to_show_it(where, text_file, tmp_path, finished):
    end = shell(f'jaxlstm train "$@" 2>{where}', text_file, "--out", tmp_path / "run", *OPTIONS)
    assert end.returncode == 0
    assert "A sample:" in end.stdout
    assert metrics(tmp_path / "run") == metrics(finished)


def test_names_need_not_be_utf_8(tmp_path, call, finished):
    text, out = (os.fsdecode(os.fsencode(tmp_path / name) + b"\xff") for name in ("text", "run"))
    Path(text).write_text(TEXT, encoding="utf-8")
    status, said, _ = call("train", text, "--out", out, *OPTIONS)
    assert status == 0
    assert "\\udcff" in said
    assert metrics(Path(out)) == metrics(finished)
    assert call("train", "--resume", "--out", out)[0] == 0
    assert "\\udcff: holds a run already" in call("train", text, "--out", out)[2]


BAD = {
    "missing": (["nowhere.txt"], "nowhere.txt: No such file or directory."),
    "a folder": (["folder"], "folder: Is a directory. Name its files, as in folder/*.txt."),
    "a device": (["/dev/zero"], "/dev/zero: not a regular file. Save its text to a file"),
    "standard input": (["-"], "-: No such file or directory. Standard input can't be read again"),
    "a pipe": (["pipe"], "pipe: not a regular file"),
    "empty": (["empty.txt"], "empty.txt: the file is empty"),
    "not UTF-8": (
        ["latin-1.txt"],
        "latin-1.txt: not UTF-8 text (byte 0xe9 at offset 3). Convert it to UTF-8; or is it no text",
    ),
    "one of two": (["text.txt", "empty.txt"], "empty.txt: the file is empty"),
    "too short": (["text.txt", "--batch", "64", "--window", "128"], "need 8,193 characters to train on"),
    "one character": (["tiny.txt", "--batch", "1", "--window", "1"], "need 2 characters to train on"),
    "a run there": (["text.txt", "--out", "run"], "--out run: holds a run already. Go on with it by --resume"),
    "files there": (["text.txt", "--out", "folder"], "--out folder: holds other files (empty.txt)"),
    "out is a file": (["text.txt", "--out", "text.txt"], "--out text.txt: Not a directory"),
    "out in a file": (["text.txt", "--out", "text.txt/run"], "--out text.txt/run: Not a directory"),
    "out not writable": (["text.txt", "--out", "/proc/jaxlstm", *OPTIONS], "/proc/jaxlstm: No such file or directory"),
    "resume nothing": (["--resume", "--out", "nowhere"], "or begin one: jaxlstm train --out nowhere"),
    "resume no run": (["--resume", "--out", "folder"], "folder: holds no run"),
    "resume differently": (["--resume", "--out", "run", "--hidden", "17"], "--hidden 17: the run in run began with 16"),
    "resume another text": (
        ["other.txt", "--resume", "--out", "run"],
        "...). Leave out the FILEs, or begin another run",
    ),
    "resume changed text": (["--resume", "--out", "changed"], "Restore it, or begin another run with another --out"),
    "resume deleted text": (
        ["--resume", "--out", "deleted"],
        "gone.txt: No such file or directory. The run in deleted reads it. Restore it, or begin another run",
    ),
    "a torn configuration": (["--resume", "--out", "torn"], "config.json: is none that this version of jaxlstm wrote"),
    "fewer steps": (["--resume", "--out", "run", "--steps", "7"], "--steps 7: the run in run has 30, and it can only"),
    "too large": (
        ["text.txt", "--hidden", "1000000"],
        "--hidden 1000000 --layers 1: parameters, gradients",
    ),
    "steps 0": (["text.txt", "--steps", "0"], "'--steps': 0 is not in the range x>=1"),
    "hidden -1": (["text.txt", "--hidden", "-1"], "'--hidden': -1 is not in the range x>=1"),
    "window 1.5": (["text.txt", "--window", "1.5"], "'--window': '1.5' is not a valid integer"),
    "rate NaN": (["text.txt", "--lr", "nan"], "'--learning-rate' / '--lr': nan is not a finite number"),
    "clip infinite": (["text.txt", "--clip", "inf"], "'--clip': inf is not a finite number"),
    "warm-up 2": (["text.txt", "--warmup", "2"], "'--warmup': 2.0 is not in the range 0<=x<=1"),
    "dropout 1.5": (["text.txt", "--layers", "2", "--dropout", "1.5"], "'--dropout': 1.5 is not in the range 0<=x<=1"),
    "idle dropout": (["text.txt", "--dropout", "0.1"], "--dropout 0.1: it acts between layers, and --layers is 1"),
    "dtype": (["text.txt", "--dtype", "int8"], "'--dtype': 'int8' is not one of 'float32', 'bfloat16'"),
    "seed": (["text.txt", "--seed", "-1"], "'--seed': -1 is not in the range"),
    "unknown option": (["text.txt", "--hiden", "3"], "No such option"),
    "sample nothing": (["sample", "nowhere"], "nowhere: holds no run"),
    "sample unfinished": (["sample", "begun"], "begun: the run has no checkpoint yet"),
    "sample, --out": (["sample", "--out", "run"], "the run's folder is named without it, as in: jaxlstm sample"),
    "sample, temperature": (["sample", "run", "--temperature", "-1"], "'--temperature': -1.0 is not in the range x>=0"),
    "sample, NaN": (["sample", "run", "--temperature", "nan"], "'--temperature': nan is not a finite number"),
    "sample, length": (["sample", "run", "--length", "0"], "'--length': 0 is not in the range"),
    "sample, prompt": (["sample", "run", "--prompt", "☃"], "--prompt: the training text has no '☃'"),
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
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "tiny.txt").write_text("a")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "empty.txt").touch()
    (tmp_path / "run").symlink_to(finished)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_bytes((finished / "config.json").read_bytes())
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_bytes((finished / "config.json").read_bytes()[:-9])
    for name, text in {"changed": "other.txt", "deleted": "gone.txt"}.items():
        record = dataclasses.replace(_run.load(finished), files=(str(tmp_path / text),))
        (tmp_path / name).mkdir()
        _run.write(tmp_path / name, record)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_touches_nothing(name, desk, finished, call):
    args, words = BAD[name]
    before = snapshot(desk), snapshot(finished)
    status, out, err = call(*(args if args[0] in ("sample", "trian") else ["train", *args]))
    assert (status, out) == (1 if name == "out not writable" else 2, "")
    assert words in err
    assert err.count("\n") == 1
    assert (snapshot(desk), snapshot(finished)) == before

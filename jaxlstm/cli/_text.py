"""The text of a character model: where it is read from, what is held out, its vocabulary and ids."""

import hashlib
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

HELD_OUT = 0.05
"""Share of the text, its end, that is not trained on."""

UNKNOWN = 0
"""The id of every character that the training text lacks."""

UNKNOWN_BITS = float(np.log2(0x110000))
"""What it takes beyond `UNKNOWN` to say which of Unicode's code points it is."""

# From the beginning of each module, so that none, such as html/entities.py with its table, weighs much.
_MODULE_CHARACTERS = 10_000
# What is no code a person wrote for others to read: installed packages, tests, tables, generated text.
_PASSED_OVER = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data"}


def read_text(files: Sequence[Path]) -> str:
    """The files' text, one after the other; with no files, Python's own standard library.

    Raises:
        click.UsageError: a file that is missing, empty, not readable or not UTF-8.
    """
    return "".join(map(_read_file, files)) if files else _standard_library()


def _read_file(path: Path) -> str:
    try:
        if not path.is_dir() and path.exists() and not path.is_file():  # It may have no end, or never come.
            raise click.UsageError(f"{path}: not a regular file. Save its text to a file first.")
        data = path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror or error}.{_remedy(path)}") from error
    if not data:
        raise click.UsageError(f"{path}: the file is empty.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(
            f"{path}: not UTF-8 text (byte 0x{data[error.start]:02x} at offset {error.start}). Convert it to "
            "UTF-8; or is it no text at all?"
        ) from error


def _remedy(path: Path) -> str:
    if path == Path("-"):
        return " Standard input can't be read again to go on with a run: save it to a file first."
    return f" Name its files, as in {path}/*.txt." if path.is_dir() else ""


def _standard_library() -> str:
    """Modules of the running Python in an order that mixes topics but is always the same."""
    root = Path(sysconfig.get_paths()["stdlib"])
    names = (path.relative_to(root) for path in root.rglob("*.py"))
    kept = [name for name in names if not _PASSED_OVER.intersection(name.parts)]
    kept.sort(key=lambda name: hashlib.sha256(name.as_posix().encode()).digest())
    return "".join(text[:_MODULE_CHARACTERS] for name in kept if (text := _decoded((root / name).read_bytes())))


def _decoded(data: bytes) -> str | None:
    """UTF-8 text; None if it is none, as of the few modules that declare another encoding."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def split(text: str) -> tuple[str, str]:
    """The text to train on, and its end, which is held out."""
    held_out = max(1, round(len(text) * HELD_OUT))
    return text[: len(text) - held_out], text[len(text) - held_out :]


def fingerprint(text: str) -> str:
    """SHA-256 of the text."""
    return hashlib.sha256(text.encode()).hexdigest()


def vocabulary_of(text: str) -> str:
    """The text's characters in order of their code points; the k-th has the id k+1, after `UNKNOWN`."""
    return "".join(sorted(set(text)))


def default_prompt(vocabulary: str) -> str:
    """What a sample goes on from: a line break, where the text had any."""
    return "\n" if "\n" in vocabulary else vocabulary[0]


def encode(text: str, vocabulary: str) -> np.ndarray:
    """Ids `int32[N]` of the text's N characters."""
    codes, known = (np.frombuffer(s.encode("utf-32-le"), np.uint32) for s in (text, vocabulary))
    position = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    return np.where(known[position] == codes, position + 1, UNKNOWN).astype(np.int32)

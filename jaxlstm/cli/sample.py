"""`jaxlstm sample`: text from a run of `jaxlstm train`."""

import math
import shlex
from pathlib import Path

import click

from jaxlstm.cli import _run, _text


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--prompt", help="Text to go on from.  [default: a line break]")
@click.option("--length", type=click.IntRange(min=1), default=500, show_default=True, help="Characters to write.")
@click.option("--temperature", type=float, default=0.7, show_default=True, help="Below 1 surer, above 1 wilder.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Same seed, same text.")
def sample(out: Path, prompt: str | None, length: int, temperature: float, seed: int) -> None:
    """Write text with the newest checkpoint of the run in OUT, behind the prompt."""
    if not 0 < temperature < math.inf:
        raise click.UsageError(f"--temperature {temperature}: expected a number above 0.")
    record = _run.load(out)
    prompt = _text.default_prompt(record.vocabulary) if prompt is None else prompt
    if not prompt:
        raise click.UsageError("--prompt: expected at least one character.")
    if unknown := sorted(set(prompt) - set(record.vocabulary)):
        raise click.UsageError(f"--prompt: the training text has no {', '.join(map(ascii, unknown))}.")

    # Only now that the input is known to be good, for these take seconds to import.
    from jaxlstm.cli import _devices, _model
    from jaxlstm.cli._checkpoints import Checkpoints

    model = _model.make_model(record.config, record.vocabulary)
    with Checkpoints(out, read_only=True) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            go_on = f"jaxlstm train --resume --out {shlex.quote(str(out))}"
            raise click.UsageError(f"{out}: the run has no checkpoint yet. Go on with it: {go_on}")
        state = checkpoints.restore(step, _model.state_shape(record.config, model, _devices.make_mesh()))
    click.echo(prompt + _model.continuation(model, state.params, record.vocabulary, prompt, length, temperature, seed))

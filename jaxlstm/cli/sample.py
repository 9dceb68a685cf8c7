"""`jaxlstm sample`: text from a run of `jaxlstm train`."""

from pathlib import Path

import click

from jaxlstm.cli._config import DEFAULT_OUT, SEED, FiniteRange


def _refuse(_: click.Context, __: click.Parameter, given: bool) -> None:
    """Train's way to name a run, for which click would suggest --prompt."""
    if given:
        raise click.UsageError("--out: the run's folder is named without it, as in: jaxlstm sample runs/train")


@click.command()
@click.argument("out", type=click.Path(path_type=Path), default=DEFAULT_OUT)
@click.option("--prompt", help="Text to go on from.  [default: a line break]")
@click.option("--length", type=click.IntRange(min=1), default=500, show_default=True, help="Characters to write.")
@click.option(
    "--temperature",
    type=FiniteRange(min=0),
    default=0.7,
    show_default=True,
    help="Below 1 surer, above 1 wilder; 0 takes the likeliest character each time.",
)
@click.option("--out", "_", is_flag=True, hidden=True, is_eager=True, expose_value=False, callback=_refuse)
@click.option("--seed", type=SEED, default=0, show_default=True, help="Same seed, same text.")
def sample(out: Path, prompt: str | None, length: int, temperature: float, seed: int) -> None:
    """Write text with the newest checkpoint of the run in OUT, behind the prompt.

    Without OUT it is the run in runs/train, where jaxlstm train has it unless told otherwise.
    """
    # Imports take seconds: each waits until what comes before it is known to be good.
    from jaxlstm.cli import _run, _text
    from jaxlstm.cli._streams import say

    record = _run.load(out)
    prompt = _text.default_prompt(record.vocabulary) if prompt is None else prompt
    if not prompt:
        raise click.UsageError("--prompt: expected at least one character.")
    if unknown := sorted(set(prompt) - set(record.vocabulary)):
        raise click.UsageError(f"--prompt: the training text has no {', '.join(map(repr, unknown))}.")

    from jaxlstm.cli import _model
    from jaxlstm.cli._load import newest_params

    model = _model.make_model(record.config, record.vocabulary)
    step, params = newest_params(out, record)
    say(f"From the checkpoint of step {step} of {record.config.steps}.")
    click.echo(prompt + _model.continuation(model, params, record.vocabulary, prompt, length, temperature, seed))

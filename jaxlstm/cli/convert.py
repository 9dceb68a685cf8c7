"""`jaxlstm convert` and `jaxlstm inspect`: LSTMs, GRUs and RNNs from one file to another, and what a file holds."""

from pathlib import Path

import click


@click.command()
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--prefix", help="Which LSTM of a PyTorch checkpoint, .safetensors or .npz: the prefix of its names.")
@click.option(
    "--node",
    multiple=True,
    help="Which LSTM of a .onnx, .h5 or .keras: the name of its node or layer. Given again, it stacks a layer on top.",
)
def convert(source: Path, target: Path, prefix: str | None, node: tuple[str, ...]) -> None:
    """Convert the LSTM in IN to the format that OUT's ending names; or the GRU or RNN, where there is no LSTM.

    Only that is converted: other layers in IN, such as an embedding or a dense layer, are left out, and a prefix of its
    names is removed. IN may be the folder of a run of jaxlstm train.

    Endings are .pt, .pth, .pth.tar, .ckpt, .bin, .safetensors and .npz (arrays under PyTorch's names), .onnx, .h5,
    .hdf5 and .keras. Where IN holds several LSTMs that are not one stack, they are listed, and --prefix or --node
    chooses.

    Values stay as they are, but for this: .onnx, .h5 and .keras are written in float32; .h5 and .keras have one bias,
    the sum of the two. OUT appears whole or not at all, and replaces a file that was there; a kill may leave a
    .part.*.OUT beside it, to be deleted. No code in IN is run, and it is read in a process of its own, within limits of
    time and memory.
    """
    from jaxlstm.cli import _weights  # Here, since it takes seconds.

    click.echo(_weights.convert(source, target, prefix, node))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def inspect(file: Path) -> None:
    """List the LSTMs, GRUs and RNNs in FILE: their names, layers, directions and sizes.

    A name is what convert takes as --prefix, or as --node; "" is that of an LSTM whose parameters have no prefix. Sizes
    are those of its input and of its hidden state: "3 to 4" has an input size of 3 and a hidden size of 4. A note
    "below 'b'" says that its output is the input of b, so that both are layers of one stack.

    FILE ends in .pt, .pth, .pth.tar, .ckpt, .bin, .safetensors, .npz, .onnx, .h5, .hdf5 or .keras, or is the folder of
    a run of jaxlstm train. No code in it is run, and it is read in a process of its own, within limits of time and
    memory.
    """
    from jaxlstm.cli import _weights

    _weights.show(_weights.inspect(file))

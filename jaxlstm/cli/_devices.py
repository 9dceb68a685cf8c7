"""The devices that a run is spread over: each trains on rows of the batch of its own, and has all parameters."""

from typing import Any

import click
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh

from jaxlstm.sharding import shardings

BATCH = "batch"
"""The mesh axis."""


def ask_for(devices: int | None) -> None:
    """Split the CPU into so many devices, should it be what runs; before JAX's backend starts.

    Raises:
        click.UsageError: it has started.
    """
    if devices is not None:
        try:
            jax.config.update("jax_num_cpu_devices", devices)
        except RuntimeError as error:
            raise click.UsageError(f"--devices {devices}: JAX runs in this process already, on others.") from error


def make_mesh(devices: int | None = 1, batch: int | None = None) -> Mesh:
    """The first `devices` devices of each process, or all, side by side.

    Raises:
        click.UsageError: a process has fewer, or they can't share `batch` evenly.
    """
    at_hand = [jax.local_devices(process_index=k) for k in range(jax.process_count())]
    least = min(at_hand, key=len)
    if devices is not None and devices > len(least):
        raise click.UsageError(f"--devices {devices}: there are {len(least)}, of kind {least[0].platform}.")
    chosen = [device for those in at_hand for device in those[:devices]]
    if batch is not None and batch % len(chosen):
        raise click.UsageError(
            f"--batch {batch}: {len(chosen)} devices can't share it evenly. Give a multiple of {len(chosen)}, or "
            "another number of --devices."
        )
    return Mesh(np.array(chosen), (BATCH,), axis_types=(AxisType.Auto,))


def spread(mesh: Mesh, specs: Any, arrays: Any) -> Any:
    """Arrays over the mesh; of those given, which are whole, each process reads only what its devices need."""
    arrays = jax.tree.map(np.asarray, arrays)

    def place(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)

    return jax.tree.map(place, arrays, shardings(mesh, specs, arrays))


def own(arrays: Any) -> Any:
    """What lies whole on every device, on one device of this process alone, which can then go on without the others."""
    return jax.tree.map(lambda array: array.addressable_data(0), arrays)


def gathered(arrays: Any) -> Any:
    """What is spread over the processes, whole, as NumPy's arrays, on each of them, which all call this together."""
    return multihost_utils.process_allgather(arrays, tiled=True)


def agreed(number: int) -> int:
    """The first process's number; all call this together."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))

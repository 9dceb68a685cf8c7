"""How an LSTM lies on a mesh of devices: partition specs, and the shardings that `jax.jit` and `jax.device_put` take.

Over a mesh axis `batch` the rows of x, lengths, resets and states are shared out, over a mesh axis `model` the gate
rows of the parameters. Everything else is JAX's own: meshes of `Explicit` or `Auto` axes, `jax.set_mesh`, `jit`,
`shard_map`, `jax.distributed`.

**A batch axis**: put the arrays on the mesh. Each device runs its own rows by the best implementation there is for it,
no row travels, and only gradients are summed over devices.

>>> import jax, jax.numpy as jnp, jaxlstm, optax
>>> from functools import partial
>>> from jax.sharding import PartitionSpec as P
>>> from jaxlstm.sharding import input_spec, param_specs, shardings, state_specs
>>> mesh = jax.make_mesh((jax.device_count(),), ("batch",))
>>> params = jaxlstm.init_lstm(jax.random.key(0), input_size=3, hidden_size=16)
>>> arrays = params, jnp.ones((5, 8, 3)), jnp.array([5, 4, 3, 2, 1, 0, 5, 5])
>>> params, x, lengths = jax.device_put(arrays, shardings(mesh, (P(), input_spec(), P("batch")), arrays))
>>> with jax.set_mesh(mesh):
...     output, (h_n, c_n) = jax.jit(jaxlstm.lstm)(params, x, lengths=lengths)
>>> output.sharding.spec, h_n.sharding.spec
(P(None, 'batch', None), P(None, 'batch', None))

On `Explicit` axes, which `jax.make_mesh` makes, results lie where the rows of x lie. Inside `jax.shard_map` over all
axes of its mesh a device sees its own rows only; where a module drops there, fold `jax.lax.axis_index("batch")` into
the key, or each device drops the same elements.

**With a model axis**: name `implementation="xla"`, which XLA partitions too; a kernel would gather the weights.

>>> mesh = jax.make_mesh((jax.device_count(), 1), ("batch", "model"))
>>> optimizer = optax.sgd(0.1, momentum=0.9)
>>> arguments = params, optimizer.init(params), x, lengths
>>> params_spec, opt_spec = (param_specs(tree, model="model") for tree in arguments[:2])
>>> arguments = jax.device_put(
...     arguments, shardings(mesh, (params_spec, opt_spec, input_spec(), P("batch")), arguments)
... )
>>> @jax.jit
... def step(params, opt_state, x, lengths):
...     def loss_of(params):
...         output, _ = jaxlstm.lstm(params, x, lengths=lengths, implementation="xla")
...         return jnp.mean(output**2)
...     loss, gradients = jax.value_and_grad(loss_of)(params)
...     updates, opt_state = optimizer.update(gradients, opt_state, params)
...     return optax.apply_updates(params, updates), opt_state, loss
>>> with jax.set_mesh(mesh):
...     params, opt_state, loss = step(*arguments)
>>> params[0][0].weight_hh.sharding.spec
P('model', None)
"""

import math
import re
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxlstm._names import NAME
from jaxlstm._types import AXES, LSTMState
from jaxlstm.cells import LSTM

Axis: TypeAlias = str | tuple[str, ...]


def param_specs(params: Any, model: str | None = None) -> Any:
    """Where each parameter lies: gate rows over the mesh axis `model`, everything else on every device.

    `weight_ih [4H, I]`, `weight_hh [4H, P]` and the biases `[4H]` are split in rows, `weight_hr [P, H]` in columns.
    A split is contiguous, so that the four gates of a unit lie on several devices, and XLA moves gates between
    devices at every step: what is saved is memory, of weights, gradients and the optimizer's moments.

    Args:
        params: any pytree in which parameters go by PyTorch's names: `LSTMParams`, `LSTMCellParams`, Linen's
            variables, NNX's state, a larger model that holds them, an optax state of any of these. Arrays, or shapes
            from `jax.eval_shape`.
        model: the mesh axis to split over; None to split nothing.

    Returns:
        The same tree of `PartitionSpec`.

    >>> import jax, jaxlstm
    >>> from jaxlstm import sharding
    >>> params = jaxlstm.init_lstm_cell(jax.random.key(0), input_size=3, hidden_size=8, bias=False, proj_size=2)
    >>> specs = sharding.param_specs(params, model="model")
    >>> specs.weight_ih, specs.weight_hr
    (P('model',), P(None, 'model'))
    """
    num_gates = _num_gates(params)

    def spec(path, leaf) -> P:
        units = _units(path, leaf, num_gates)
        return P() if model is None or units is None else P(*[None] * units.axis, model)

    return jax.tree_util.tree_map_with_path(spec, params)


def input_spec(batch: Axis = "batch", *, batch_first: bool = False) -> P:
    """Where x `[T, B, I]`, resets `[T, B]` and the output `[T, B, D*P]` lie: B over the mesh axis `batch`.

    With `batch_first` it is that of whatever begins with B: x `[B, T, I]`, lengths `[B]`, a cell's x `[B, I]`.

    Args:
        batch: the mesh axis, or a tuple of several.
        batch_first: whether B comes before T.

    >>> from jaxlstm import sharding
    >>> sharding.input_spec()
    P(None, 'batch')
    """
    return P(batch) if batch_first else P(None, batch)


def state_specs(batch: Axis = "batch", model: str | None = None, *, cell: bool = False) -> LSTMState:
    """Where a state lies: B over the mesh axis `batch`, and H of c over `model`; each device needs the whole of h.

    Args:
        batch: the mesh axis, or a tuple of several.
        model: the mesh axis that gate rows are split over, if they are.
        cell: for one cell's h `[B, P]`, c `[B, H]`, and not a stack's h `[L*D, B, P]`, c `[L*D, B, H]`.

    >>> from jaxlstm import sharding
    >>> sharding.state_specs(model="model")
    LSTMState(h=P(None, 'batch'), c=P(None, 'batch', 'model'))
    """
    lead = (batch,) if cell else (None, batch)
    h: Any = P(*lead)  # LSTMState's fields are arrays, and so is what its tree of specs stands for.
    c: Any = h if model is None else P(*lead, model)
    return LSTMState(h, c)


def shardings(mesh: Mesh | AbstractMesh, specs: Any, arrays: Any) -> Any:
    """The `NamedSharding` of each array, for `jax.jit` and `jax.device_put`, once it is known to fit.

    Args:
        mesh: of axes of any type; `jax.make_mesh` makes `Explicit` ones.
        specs: `PartitionSpec`s in the tree of `arrays`; one may stand for a whole subtree.
        arrays: any pytree of what is to be placed. Arrays, or shapes from `jax.eval_shape`.

    Returns:
        The tree of `arrays`, of `NamedSharding`.

    Raises:
        ValueError: a size that the devices of its mesh axis don't divide, or a mesh or a spec that doesn't fit.

    >>> import jax, jax.numpy as jnp
    >>> from jaxlstm import sharding
    >>> mesh = jax.make_mesh((1,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    >>> x = jnp.ones((5, 8, 3))
    >>> jax.device_put(x, sharding.shardings(mesh, sharding.input_spec(), x)).sharding.spec
    P(None, 'batch')
    """
    num_gates = _num_gates(arrays)

    def place(path, array, spec) -> NamedSharding:
        sharding = NamedSharding(mesh, spec)
        _check(path, array, sharding, num_gates)
        return sharding

    return jax.tree_util.tree_map_with_path(place, arrays, jax.tree.broadcast(specs, arrays))


class _Units(NamedTuple):
    """Where a parameter's hidden units lie."""

    axis: int
    gates: int  # The axis's size is this many times H.


def _field(path) -> tuple[Any, str] | None:
    """Which cell's parameter a path leads to, if to any, and which of them."""
    names = [str(getattr(key, "key", getattr(key, "name", ""))) for key in path]
    found = next(((k, match) for k, match in enumerate(re.fullmatch(NAME, name) for name in names) if match), None)
    if found is None:
        return None
    place, match = found
    return (jax.tree_util.keystr(path[:place]), match["tail"], jax.tree_util.keystr(path[place + 1 :])), match["field"]


def _num_gates(tree: Any) -> dict[Any, int]:
    """G of each cell in the tree, as far as W_hh `[G*H, P]` tells it: where there is no projection, and P is H."""
    leaves = [(_field(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    projected = {field[0] for field, _ in leaves if field is not None and field[1] == "weight_hr"}
    return {
        field[0]: leaf.shape[-2] // leaf.shape[-1]
        for field, leaf in leaves
        if field is not None and field[1] == "weight_hh" and field[0] not in projected and leaf.ndim >= 2
        if leaf.shape[-1] and leaf.shape[-2] % leaf.shape[-1] == 0
    }


def _units(path, leaf, num_gates: dict[Any, int]) -> _Units | None:
    """Those of a cell's parameter, with any axes before its own, and of what an optimizer keeps in its shape."""
    field = _field(path)
    if field is None:
        return None
    cell, name = field
    own_axes = AXES[name]
    rows = "G*H" in own_axes
    axis, gates = (own_axes.index("G*H"), num_gates.get(cell, LSTM.num_gates)) if rows else (own_axes.index("H"), 1)
    units = _Units(leaf.ndim - len(own_axes) + axis, gates)
    # An optimizer may keep other shapes under a parameter's name, as Adafactor does.
    return units if leaf.ndim >= len(own_axes) and leaf.shape[units.axis] % gates == 0 else None


def _check(path, array, sharding: NamedSharding, num_gates: dict[Any, int]) -> None:
    """Refuse an array whose sizes its devices don't divide."""
    name, shape = "arrays" + jax.tree_util.keystr(path), list(np.shape(array))
    if len(sharding.spec) > len(shape):
        raise ValueError(
            f"{name}: expected at least the {len(sharding.spec)} axes of {sharding.spec}, got {shape}. "
            "Check that the specs stand in the order of the arrays."
        )
    for axis, over in enumerate(sharding.spec):
        if over is None:
            continue
        over = (over,) if isinstance(over, str) else over
        devices = math.prod(sharding.mesh.shape[mesh_axis] for mesh_axis in over)
        letter, size = _split(path, array, axis, over, num_gates)
        if size % devices:
            remedies = {"H": "another hidden_size", "B": "fill the batch up with rows of length 0"}
            raise ValueError(
                f"{name}: expected {letter} to be a multiple of {devices}, the size of mesh axis "
                f"{' x '.join(map(repr, over))}, got {letter} = {size} in {shape}. "
                f"Use a mesh whose axis divides it, or {remedies.get(letter, 'another size')}."
            )


def _split(path, array, axis: int, over: tuple[str, ...], num_gates: dict[Any, int]) -> tuple[str, int]:
    """The letter and size of what a spec splits; of gate rows it is H, for c's H is split with them."""
    size, units = array.shape[axis], _units(path, array, num_gates)
    if units is not None and axis == units.axis:
        return "H", size // units.gates
    if path and getattr(path[-1], "name", "") == "c" and axis == array.ndim - 1:
        return "H", size
    return ("B" if "batch" in over else f"axis {axis}"), size

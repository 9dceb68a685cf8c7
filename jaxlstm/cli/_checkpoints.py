"""A run's checkpoints. Orbax writes each under a temporary name and renames it, so that one killed half-way is none."""

import logging
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

# A kill while an old checkpoint is being deleted leaves a part of it. It is never the newest and goes with the next
# deletion, but orbax warns of it each time it lists the folder.
logging.getLogger("absl").setLevel(logging.ERROR)


class Checkpoints:
    """The newest two states of a run; `read_only` leaves the folder to whoever may be writing there."""

    def __init__(self, out: Path, *, read_only: bool = False):
        # Not asynchronous: the next step takes the state's buffers over while they would still be read.
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(out.absolute() / "checkpoints", options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        """The step of the newest one, None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Write a state; it counts when this returns."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, step: int, like: Any) -> Any:
        """The state of a step, in the tree, shapes, dtypes and shardings of `like` (of `jax.ShapeDtypeStruct`)."""
        return self._manager.restore(step, args=ocp.args.StandardRestore(like))

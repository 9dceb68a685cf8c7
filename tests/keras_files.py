"""Files in the structure of Keras 2.12 to 3.3, as real ones of 2.13, 2.15 and 3.3 have it."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

H = 4


def arrays(seed: int, width: int = H) -> list[np.ndarray]:
    """Kernel, recurrent kernel and bias."""
    random = np.random.default_rng(seed)
    return [random.normal(size=shape).astype(np.float32) for shape in ((width, 4 * H), (H, 4 * H), (4 * H,))]


def described(name: str, class_name: str = "LSTM", **config: Any) -> dict[str, Any]:
    """An LSTM layer, or a class that extends one."""
    plain = {"units": H, "activation": "tanh", "recurrent_activation": "sigmoid", "unit_forget_bias": True}
    return {"class_name": class_name, "config": {"name": name} | plain | config}


def both_ways(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": "Bidirectional", "config": {"name": name, "merge_mode": "concat"} | config}


def cells(name: str, *inner: dict[str, Any]) -> dict[str, Any]:
    stacked = {"class_name": "StackedRNNCells", "config": {"name": "stacked", "cells": list(inner)}}
    return {"class_name": "RNN", "config": {"name": name, "cell": stacked}}


def model_of(*layers: dict[str, Any], class_name: str = "Sequential") -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": "model", "layers": list(layers)}}


def numbered(path: str, weights: list[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{path}/vars/{k}": array for k, array in enumerate(weights)}


def named(path: str, weights: list[np.ndarray], tail: str = ":0") -> dict[str, np.ndarray]:
    names = ("kernel", "recurrent_kernel", "bias")
    return {f"{path}/{name}{tail}": array for name, array in zip(names, weights, strict=False)}


def write_h5(path: Any, leaves: dict[str, np.ndarray], config: Any = None) -> None:
    with h5py.File(path, "w") as file:
        for name, array in leaves.items():
            file[name] = array
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)


def write_zip(path: Path, leaves: dict[str, np.ndarray], config: Any) -> None:
    buffer = io.BytesIO()
    write_h5(buffer, leaves)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", buffer.getvalue())

"""`torch.nn.LSTM` and `torch.nn.GRU`, eager, as its users run it: oneDNN on a CPU, cuDNN on a GPU."""

import numpy as np
import torch

from jaxlstm.cli.bench._work import Work, wide


def runner(work: Work) -> "TorchRunner":
    """RuntimeError if PyTorch can't run on the platform that the others run on."""
    if work.platform == "cpu":
        return TorchRunner(work, "cpu")
    if work.platform == "gpu" and torch.cuda.is_available():
        return TorchRunner(work, "cuda")
    raise RuntimeError(f"torch {torch.__version__} has no {work.platform} to run on")


class TorchRunner:
    """A `Runner` for a module of `torch.nn`, time-major as it is by default."""

    def __init__(self, work: Work, device: str) -> None:
        """Place the numbers on the device."""
        self._wide = wide(work.dtype)
        dtype = getattr(torch, work.dtype)
        shape = work.shape
        self._module = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[work.cell](
            shape.input,
            shape.hidden,
            shape.layers,
            bidirectional=shape.directions == 2,
            device=device,
            dtype=dtype,
        )
        self._module.load_state_dict({name: torch.from_numpy(array) for name, array in work.weights.items()})
        self._x, self._cotangent = (torch.from_numpy(a).to(device, dtype) for a in (work.x, work.cotangent))
        self._cuda = device == "cuda"

    def compile(self, mode: str) -> dict[str, float | None]:
        """Nothing is compiled; only CUDA tells how much memory a call took."""
        temp_bytes = None
        if self._cuda:
            self.run(mode)
            torch.cuda.reset_peak_memory_stats()
            kept = self.run(mode)
            temp_bytes = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
            del kept
        return {"compile_s": None, "temp_bytes": temp_bytes}

    def run(self, mode: str) -> object:
        """One call, waited for; its result."""
        result = self._forward() if mode == "fwd" else self._train()
        if self._cuda:
            torch.cuda.synchronize()
        return result

    def _forward(self) -> tuple[torch.Tensor, ...]:
        self._module.eval()
        with torch.inference_mode():
            y, states = self._module(self._x)
        return (y, states) if isinstance(states, torch.Tensor) else (y, *states)

    def _train(self) -> tuple[torch.Tensor, ...]:
        self._module.train()
        self._module.zero_grad(set_to_none=True)
        x = self._x.detach().requires_grad_()
        y, _ = self._module(x)
        loss = (y * self._cotangent).sum()
        loss.backward()
        assert x.grad is not None
        return loss.detach(), x.grad

    def numbers(self, mode: str) -> dict[str, np.ndarray]:
        """What one call gives, as `Runner` says."""
        if mode == "fwd":
            found = dict(zip(("output", "h_n", "c_n"), self._forward(), strict=False))
        else:
            _, x = self._train()
            found = {"gradient of x": x}
            found |= {
                f"gradient of {name}": p.grad for name, p in self._module.named_parameters() if p.grad is not None
            }
        return {name: tensor.cpu().to(torch.float64).numpy().astype(self._wide) for name, tensor in found.items()}

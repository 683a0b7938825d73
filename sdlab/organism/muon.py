"""Muon in float32: the same optimizer as `torch.optim.Muon`, which computes in bfloat16 whatever the device.

On a processor without bfloat16 instructions, torch's version takes more time than the forward and backward
passes of the organism together; this one takes a few percent of a step.

Source: K. Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024).
"""

from collections.abc import Iterable

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration
ITERATIONS = 5
EPSILON = 1e-7


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Return about U V^T for `matrix` = U S V^T: (rows, columns), singular values near 1."""
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=EPSILON)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, for weight matrices.

    params: matrices (rows, columns). The rate of a matrix with more rows than columns is multiplied by
    sqrt(rows / columns). The momentum is Nesterov's.
    """

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, weight_decay: float = 0.01, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                average = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
                update = orthogonalise(matrix.grad.lerp(average, momentum))
                matrix.mul_(1 - lr * group["weight_decay"])
                matrix.add_(update, alpha=-lr * max(1.0, matrix.size(0) / matrix.size(1)) ** 0.5)

"""Our Muon against torch's, which rounds to bfloat16, and against the singular value decomposition."""

import torch

from sdlab.organism.muon import Muon, orthogonalise


def test_orthogonalised_matrices_have_singular_values_near_one_and_the_same_directions():
    torch.manual_seed(0)
    for shape in ((32, 32), (24, 96), (96, 24)):
        matrix = torch.randn(shape)
        u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
        result = orthogonalise(matrix)
        inner = u.T @ result @ vt.T  # diagonal when the directions are kept
        # the quintic iteration ends between about .7 and 1.2 except for singular values near 0
        assert (inner - torch.diag(inner.diagonal())).abs().max() < 0.05
        assert inner.diagonal()[:16].sub(1).abs().max() < 0.4


def test_updates_are_those_of_torch_up_to_its_bfloat16():
    torch.manual_seed(0)
    shapes = [(16, 48), (48, 16), (32, 32)]
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(matrix.detach().clone()) for matrix in ours]
    before = [matrix.detach().clone() for matrix in ours]
    options = {"lr": 0.02, "weight_decay": 0.01, "momentum": 0.95}
    optimizers = Muon(ours, **options), torch.optim.Muon(theirs, **options)
    for step in range(8):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step))
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b, start in zip(ours, theirs, before, strict=True):
        change = (b - start).norm()
        assert change > 0.3
        assert (a - b).norm() / change < 0.02


def test_a_saved_state_continues_with_the_same_updates():
    torch.manual_seed(0)
    whole, parts = (torch.nn.Parameter(torch.ones(4, 6)) for _ in range(2))
    gradients = torch.randn(6, 4, 6)
    first, second = Muon([whole], 0.02), Muon([parts], 0.02)
    for number, gradient in enumerate(gradients):
        whole.grad, parts.grad = gradient, gradient.clone()
        first.step()
        second.step()
        if number == 2:
            state = second.state_dict()
            second = Muon([parts], 0.02)
            second.load_state_dict(state)
    assert torch.equal(whole, parts)

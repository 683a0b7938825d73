"""A training loop as small as can be, for the tests of run folders.

It has what makes resuming hard: an optimizer with momentum, random numbers, and a second model that follows
the first.
"""

import time
from dataclasses import dataclass

import torch

from sdlab.runs.folder import open_run
from sdlab.seeds import stable_int


@dataclass(frozen=True)
class ToyConfig:
    steps: int = 20
    seed: int = 0
    rate: float = 0.1


def run_toy(folder, config: ToyConfig, pause: float = 0.0, size: int = 200, **options):
    torch.manual_seed(0)
    model, follower = torch.nn.Linear(size, size), torch.nn.Linear(size, size)
    follower.load_state_dict(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.rate)
    with open_run(folder, config, method="toy", model="none", **options) as run:
        state = {"model": model, "optimizer": optimizer, "teacher": follower}
        rows = run.restore(state)
        for step in range(len(rows), config.steps):
            data = torch.randn(
                8, size, generator=torch.Generator().manual_seed(stable_int("toy", config.seed, step) % 2**31)
            )
            loss = (model(data) - follower(data).detach() - data.roll(1, 1)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for mine, theirs in zip(follower.parameters(), model.parameters(), strict=True):
                    mine.lerp_(theirs, 0.05)
            rows.append({"step": step, "loss": loss.item(), "seconds": time.time()})
            run.save_step(rows[-1], [{"step": step, "completion": f"text {step}" * 50}], state)
            time.sleep(pause)
        run.finish()
    return rows

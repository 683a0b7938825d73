"""Extend vLLM's workers so that the model divides its logits by a temperature."""

from typing import Any

import torch


class TemperatureWorker:
    """Methods for vLLM's `worker_extension_cls`; they run inside each worker, one per GPU.

    vLLM returns log-probabilities either before the temperature (logprobs_mode "raw_logprobs", and always for
    prompts) or after top-p and top-k ("processed_logprobs"). The study needs them after the temperature,
    before top-p and top-k, and for given completions too. Dividing the logits inside the model gives all of
    these from "raw_logprobs", while requests are sampled at temperature 1.
    """

    model_runner: Any  # vLLM's worker, which inherits from this class, has it

    def sdlab_set_temperature(self, temperature: float) -> None:
        """Divide the model's logits by `temperature`, in float32, from now on."""
        model = self.model_runner.get_model()
        plain = getattr(model, "sdlab_plain_logits", None) or model.compute_logits
        model.sdlab_plain_logits = plain

        def divided(*args: Any, **kwargs: Any) -> torch.Tensor | None:
            logits = plain(*args, **kwargs)
            # The logits are None on ranks that do not sample.
            return None if logits is None else logits.float() / temperature

        model.compute_logits = plain if temperature == 1 else divided

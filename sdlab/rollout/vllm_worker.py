"""What sdlab adds to vLLM's workers: a temperature inside the model, so that every log-probability vLLM returns is at it."""


class TemperatureWorker:
    """Methods for vLLM's `worker_extension_cls`; they run inside each worker, one per GPU.

    vLLM returns log-probabilities either before the temperature (logprobs_mode "raw_logprobs", and always for prompts) or
    after top-p and top-k ("processed_logprobs"). The study needs them after the temperature and before top-p and top-k, and
    for given completions too. Dividing the logits where the model makes them gives all three from "raw_logprobs", while
    requests are sampled at temperature 1.
    """

    def sdlab_set_temperature(self, temperature: float) -> None:
        """From now on the model's logits are divided by `temperature`, in float32."""
        model = self.model_runner.get_model()
        plain = getattr(model, "sdlab_plain_logits", None) or model.compute_logits
        model.sdlab_plain_logits = plain

        def divided(*args, **kwargs):
            logits = plain(*args, **kwargs)
            return (
                logits if logits is None else logits.float() / temperature
            )  # None on the ranks that do not sample

        model.compute_logits = plain if temperature == 1 else divided

"""The vLLM rollout engine: the default engine's interface and results, for models that need GPUs (offline `vllm.LLM`)."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch

from sdlab.errors import SdlabError, first_line
from sdlab.rollout.checks import OutOfMemory, is_out_of_memory, require_vllm
from sdlab.rollout.rows import check_scored, collect, encode
from sdlab.rollout.sampling import row_keys
from sdlab.rollout.types import Rollouts, SamplingParams, Scores
from sdlab.rollout.vllm_start import end_ids, start

BATCHED_TOKENS = 2_048  # per step on a GPU: the logits of so many prompt tokens lie in memory at once when completions are scored
NUMBERS = 4_000_000  # log-probabilities per batch of score: each is a Python object of vLLM's on the way


class VllmEngine:
    """Samples from and scores with the model in `model`, a folder or a hub name, through vLLM. Weights do not change: no training.

    tokenizer: the model's, of transformers. tensor_parallel_size: GPUs that share the model. dtype: float32 on a CPU, bfloat16
    on a GPU. max_model_len: tokens of prompt and completion together (default: the model's context); lower it when its cache
    does not fit the memory. gpu_memory_utilization: share of each GPU's memory that vLLM takes. enforce_eager: no compilation
    and no CUDA graphs (default: on a CPU only). Prefix caching is on. Results are on the CPU.
    Raises SdlabError when vLLM is missing or of another version, and for a model it cannot load; OutOfMemory names what to lower.
    """

    def __init__(
        self,
        model: str,
        tokenizer,
        *,
        tensor_parallel_size: int = 1,
        dtype: torch.dtype | str | None = None,
        max_model_len: int | None = None,
        gpu_memory_utilization: float = 0.9,
        enforce_eager: bool | None = None,
    ):
        from transformers import AutoConfig

        require_vllm()
        config = AutoConfig.from_pretrained(model, trust_remote_code=False).get_text_config()
        context = getattr(config, "max_position_embeddings", None)
        if max_model_len is not None and not 2 <= max_model_len <= (context or max_model_len):
            raise SdlabError(
                f"max_model_len={max_model_len} is not allowed; it must be from 2 to the model's context of {context}"
            )
        if not 0 < gpu_memory_utilization <= 1:
            raise SdlabError(
                f"gpu_memory_utilization={gpu_memory_utilization} is not allowed; it must be above 0 and at most 1"
            )
        self.tokenizer, self.vocab = tokenizer, config.vocab_size
        self.eos_ids = end_ids(model, tokenizer)
        self.pad_id = self.eos_ids[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        on_cpu = not torch.cuda.is_available()
        more = {"max_num_batched_tokens": BATCHED_TOKENS}
        if on_cpu:
            # vLLM rewinds a request's random numbers after a part of a prompt, which a CPU's generator cannot do: no parts
            more = {
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(max_model_len or context or 0, BATCHED_TOKENS),
            }
        self.llm = start(
            on_cpu,
            model=model,
            skip_tokenizer_init=True,  # token ids go in and come out: both engines use the same tokenizer in the same way
            tensor_parallel_size=tensor_parallel_size,
            dtype=str(dtype or ("float32" if on_cpu else "bfloat16")).removeprefix("torch."),
            max_model_len=max_model_len,
            gpu_memory_utilization=gpu_memory_utilization,
            enforce_eager=on_cpu if enforce_eager is None else enforce_eager,
            enable_prefix_caching=True,
            logprobs_mode="raw_logprobs",
            max_logprobs=-1,
            worker_extension_cls="sdlab.rollout.vllm_worker.TemperatureWorker",
            trust_remote_code=False,
            **more,
        )
        # scoring makes vLLM sample one token more, which must have room too
        self.context_length = self.llm.llm_engine.model_config.max_model_len - 1
        self.temperature = 1.0
        self.check_temperature()

    @property
    def model(self):
        """There is none: vLLM holds the weights in its own form. Raises SdlabError."""
        raise SdlabError(
            'a vLLM engine has no torch model to train or to look into; load it with load_engine(..., engine="torch")'
        )

    def encode(self, prompts: list[str], room: int) -> list[list[int]]:
        """Token ids of rendered prompts (no special tokens added); checks that each leaves `room` tokens of the context."""
        return encode(self.tokenizer, prompts, room, self.context_length)

    def generate(
        self, prompts: list[str], params: SamplingParams, progress: Callable[[int, int], None] | None = None
    ) -> Rollouts:
        """Sample G = params.num_generations completions of each of P prompts (already rendered with the chat template).

        `progress(done, total)` counts rows. Every row is a request with its own seed, which depends only on the prompt, the
        seed and the count of equal prompts before it: not on the batch's order or on the other rows. Its tokens depend on
        these and the model, up to the last bits of a floating-point sum, which differ with the requests that vLLM happens
        to run together (in bfloat16 these bits are coarse: expect rows to part after some hundred tokens). They are not the
        default engine's tokens for the same seed: vLLM draws in its own way. Greedy rows are the same in both, up to ties.
        per_token_logps are vLLM's own, at the temperature and before top-p and top-k (see vllm_worker.py).
        Raises SdlabError for an empty prompt, a prompt too long for the model, and logits that are not finite.
        """
        from vllm import SamplingParams as Request

        prompt_ids = self.encode(prompts, params.max_completion_length)
        greedy = params.temperature == 0
        settings = dict(
            max_tokens=params.max_completion_length, temperature=0.0 if greedy else 1.0, top_p=params.top_p, top_k=params.top_k,
            logprobs=0, flat_logprobs=True, stop_token_ids=self.eos_ids, detokenize=False,
        )  # fmt: skip
        requests = [Request(seed=key, **settings) for key in row_keys(prompts, params)]
        rows = [ids for ids in prompt_ids for _ in range(params.num_generations)]
        outputs = self.run(rows, requests, 1.0 if greedy else params.temperature, progress)
        lengths = [len(output.outputs[0].token_ids) for output in outputs]
        shape = (len(rows), max(lengths, default=0))
        tokens, logps = torch.full(shape, self.pad_id), torch.zeros(shape)
        for row, (output, length) in enumerate(zip(outputs, lengths)):
            tokens[row, :length] = torch.tensor(output.outputs[0].token_ids)
            logps[row, :length] = torch.tensor(output.outputs[0].logprobs.logprobs)
        return collect(self.tokenizer, self.eos_ids, self.pad_id, prompts, prompt_ids, params, tokens, logps)

    def score(
        self,
        prompts: list[str],
        completion_ids: list[list[int]],
        *,
        temperature: float = 1.0,
        return_logits: bool = False,
        top_k: int | None = None,
        batch_tokens: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Scores:
        """Log-probabilities of given completions, teacher-forced: row i is completion_ids[i] after prompts[i], B rows.

        Probabilities are of softmax(logits / temperature) (0 counts as 1), for every token and its top_k=K most likely rivals,
        at any temperature. entropy is None unless top_k is the whole vocabulary: vLLM returns no more of a distribution than
        the tokens asked for, and each is a Python object. There are no logits. A batch holds at most batch_tokens tokens
        (default: as many as make four million numbers). vLLM does not use its prefix cache here.
        Raises SdlabError for return_logits=True, unequal list lengths, an empty prompt, and a row too long for the model.
        """
        from vllm import SamplingParams as Request

        if return_logits:
            raise SdlabError(
                'return_logits=True is not possible with vLLM, which returns log-probabilities; ask for top_k=..., or use engine="torch"'
            )
        lengths = check_scored(prompts, completion_ids, temperature, top_k, self.vocab)
        longest, width = max(lengths, default=0), top_k or 0
        prompt_ids = self.encode(prompts, longest)
        shape = (len(prompts), longest)
        mask = torch.arange(longest)[None] < torch.tensor(lengths, dtype=torch.long)[:, None]
        logps = torch.zeros(shape)
        top_logps, top_ids = (
            (torch.zeros(*shape, width), torch.zeros(*shape, width, dtype=torch.long))
            if width
            else (None, None)
        )
        request = Request(
            max_tokens=1, temperature=0.0, prompt_logprobs=width, flat_logprobs=True, detokenize=False
        )
        rows, done = [i for i in range(len(prompts)) if lengths[i]], len(lengths) - sum(map(bool, lengths))
        while rows:
            # as many rows as the limit holds, one at least
            sizes = np.cumsum([len(prompt_ids[i]) + lengths[i] for i in rows])
            count = max(1, int((sizes <= (batch_tokens or NUMBERS // (width + 1))).sum()))
            batch, rows = rows[:count], rows[count:]
            sequences = [prompt_ids[i] + list(completion_ids[i]) for i in batch]
            inner = progress and (lambda found, _, before=done: progress(before + found, len(prompts)))
            outputs = self.run(sequences, [request] * count, temperature or 1.0, inner)
            done += count
            for i, output in zip(batch, outputs):
                # per token of the sequence but the first: the token itself, then the `width` most likely ones
                found = output.prompt_logprobs
                part = slice(-lengths[i] * (width + 1), None)
                values = torch.tensor(found.logprobs[part]).view(lengths[i], width + 1)
                logps[i, : lengths[i]] = values[:, 0]
                if width:
                    top_logps[i, : lengths[i]] = values[:, 1:]
                    top_ids[i, : lengths[i]] = torch.tensor(found.token_ids[part]).view(
                        lengths[i], width + 1
                    )[:, 1:]
        entropy = (
            torch.special.entr(top_logps.exp()).sum(-1).masked_fill(~mask, 0.0)
            if width == self.vocab
            else None
        )
        return Scores(logps, mask, entropy, None, top_logps, top_ids)

    def run(
        self,
        rows: list[list[int]],
        requests: list,
        temperature: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> list:
        """vLLM's outputs for token ids `rows` with one request's settings each, in order, the model's logits divided by `temperature`.

        An interrupt takes the unfinished requests out of the engine, which stays usable if it runs in this process (it does on a CPU).
        """
        if not rows:
            return []
        if temperature != self.temperature:
            self.llm.collective_rpc("sdlab_set_temperature", args=(temperature,))
            self.temperature = temperature
        engine, outputs = self.llm.llm_engine, []
        names = self.llm.enqueue([{"prompt_token_ids": row} for row in rows], requests, use_tqdm=False)
        try:
            while engine.has_unfinished_requests():
                finished = [output for output in engine.step() if output.finished]
                outputs += finished
                if finished and progress is not None:
                    progress(len(outputs), len(rows))
        except BaseException as error:
            with suppress(Exception):  # an engine that has died cannot be told
                engine.abort_request(names, internal=True)
            if is_out_of_memory(error):
                raise OutOfMemory(
                    f"vLLM ran out of memory ({first_line(error, 120)}); lower gpu_memory_utilization or batch_tokens"
                ) from error
            if type(error).__name__ == "EngineDeadError":
                raise SdlabError(
                    f"vLLM's engine has died ({first_line(error, 120)}); its messages above say why, load the model again"
                ) from error
            raise
        return sorted(outputs, key=lambda output: int(output.request_id))

    def check_temperature(self) -> None:
        """Whether this vLLM takes the temperature from the model: halving it must double the gap between two tokens' log-probabilities.

        Sampling and scoring are looked at both. Raises SdlabError where it does not, because every log-probability at another
        temperature would be wrong.
        """
        from vllm import SamplingParams as Request

        request = Request(
            max_tokens=1, temperature=0.0, logprobs=5, prompt_logprobs=5, flat_logprobs=True, detokenize=False
        )
        gaps = []
        for temperature in (1.0, 0.5):
            output = self.run([[self.eos_ids[0]] * 2], [request], temperature)[0]
            gaps += [
                [
                    found[-5] - found[-1]
                    for found in (output.prompt_logprobs.logprobs, output.outputs[0].logprobs.logprobs)
                ]
            ]
        if not np.allclose(gaps[1], 2 * np.array(gaps[0]), rtol=0.02, atol=0.02):
            raise SdlabError(
                f'vLLM {require_vllm()} does not let sdlab set the temperature of this model\'s log-probabilities; use engine="torch"'
            )

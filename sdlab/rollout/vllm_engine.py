"""The vLLM rollout engine: the interface and results of the default engine, for models that need GPUs."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, NoReturn

import numpy as np
import torch

from sdlab.errors import SdlabError, first_line
from sdlab.rollout.checks import OutOfMemory, is_out_of_memory, require_vllm
from sdlab.rollout.rows import check_scored, collect, encode
from sdlab.rollout.sampling import row_keys
from sdlab.rollout.types import Rollouts, SamplingParams, Scores
from sdlab.rollout.vllm_start import end_ids, start

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Tokens per step on a GPU. When completions are scored, the logits of so many tokens are in memory at the
# same time.
BATCHED_TOKENS = 2_048
# Log-probabilities per batch of `score`. vLLM returns each as a Python object.
NUMBERS = 4_000_000


class VllmEngine:
    """Sample from a model and score with it through vLLM (offline `vllm.LLM`).

    The weights do not change: this engine cannot train. model: a folder or a hub name. tokenizer: the model's
    tokenizer from transformers. tensor_parallel_size: GPUs that share the model. dtype: default float32 on a
    CPU, bfloat16 on a GPU. max_model_len: tokens of prompt and completion together (default: the model's
    context); lower it when the cache does not fit the memory. gpu_memory_utilization: share of each GPU's
    memory that vLLM takes. enforce_eager: no compilation and no CUDA graphs (default: on a CPU only). Prefix
    caching is on. Results are on the CPU.
    Raises SdlabError when vLLM is missing or has an unsupported version, and for a model that vLLM cannot
    load.
    Raises OutOfMemory, which names the setting to lower.
    """

    trains: ClassVar[bool] = False
    cheap_entropy: ClassVar[bool] = False

    def __init__(
        self,
        model: str,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        tensor_parallel_size: int = 1,
        dtype: torch.dtype | str | None = None,
        max_model_len: int | None = None,
        gpu_memory_utilization: float = 0.9,
        enforce_eager: bool | None = None,
    ) -> None:
        from transformers import AutoConfig

        require_vllm()
        config = AutoConfig.from_pretrained(model, trust_remote_code=False).get_text_config()
        context = getattr(config, "max_position_embeddings", None)
        if max_model_len is not None and not 2 <= max_model_len <= (context or max_model_len):
            raise SdlabError(
                f"max_model_len={max_model_len} is not allowed; "
                f"it must be from 2 to the model's context of {context}"
            )
        if not 0 < gpu_memory_utilization <= 1:
            raise SdlabError(
                f"gpu_memory_utilization={gpu_memory_utilization} is not allowed; "
                "it must be above 0 and at most 1"
            )
        self.tokenizer, self.vocab = tokenizer, config.vocab_size
        self.eos_ids = end_ids(model, tokenizer)
        pad = tokenizer.pad_token_id
        self.pad_id = pad if isinstance(pad, int) else self.eos_ids[0]
        on_cpu = not torch.cuda.is_available()
        more = {"max_num_batched_tokens": BATCHED_TOKENS}
        if on_cpu:
            # vLLM rewinds a request's random numbers after a part of a prompt. A CPU's generator cannot do
            # this, so prompts are not split into parts.
            more = {
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(max_model_len or context or 0, BATCHED_TOKENS),
            }
        self.llm = start(
            on_cpu,
            model=model,
            # vLLM takes and returns token ids: both engines use the same tokenizer in the same way.
            skip_tokenizer_init=True,
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
        # Scoring makes vLLM sample one more token, which also needs room.
        self.context_length = self.llm.llm_engine.model_config.max_model_len - 1
        self.temperature = 1.0
        self.check_temperature()

    @property
    def model(self) -> NoReturn:
        """Raise SdlabError: there is no torch model, because vLLM keeps the weights in its own form."""
        raise SdlabError(
            "a vLLM engine has no torch model to train or to look into; "
            'load it with load_engine(..., engine="torch")'
        )

    def encode(self, prompts: list[str], room: int) -> list[list[int]]:
        """Return the token ids of rendered prompts; no special tokens are added.

        Raises SdlabError for an empty prompt, and for one that leaves fewer than `room` tokens of the
        context.
        """
        return encode(self.tokenizer, prompts, room, self.context_length)

    def generate(
        self, prompts: list[str], params: SamplingParams, progress: Callable[[int, int], None] | None = None
    ) -> Rollouts:
        """Sample G = params.num_generations completions of each of P prompts.

        The prompts are already rendered with the chat template. progress(done, total) counts rows. Every row
        is a request with its own seed. That seed depends only on the prompt, params.seed and the number of
        equal prompts before it, not on the order of the batch or on other rows. The row's tokens depend on
        its seed, its prompt and the model, except for the last bits of floating-point sums, which differ with
        the requests that vLLM runs together. In bfloat16 these bits are coarse: expect rows to differ after
        some hundred tokens. The tokens are not those of the default engine for the same seed, because vLLM
        samples in another way. Greedy rows are the same in both engines, except for ties. per_token_logps are
        those of vLLM, at the temperature and before top-p and top-k (see vllm_worker.py).
        Raises SdlabError for an empty prompt, a prompt too long for the model, and logits that are not
        finite.
        """
        from vllm import SamplingParams as Request

        prompt_ids = self.encode(prompts, params.max_completion_length)
        greedy = params.temperature == 0
        settings = dict(
            max_tokens=params.max_completion_length,
            temperature=0.0 if greedy else 1.0,
            top_p=params.top_p,
            top_k=params.top_k,
            logprobs=0,
            flat_logprobs=True,
            stop_token_ids=self.eos_ids,
            detokenize=False,
        )
        requests = [Request(seed=key, **settings) for key in row_keys(prompts, params)]
        rows = [ids for ids in prompt_ids for _ in range(params.num_generations)]
        outputs = self.run(rows, requests, 1.0 if greedy else params.temperature, progress)
        lengths = [len(output.outputs[0].token_ids) for output in outputs]
        shape = (len(rows), max(lengths, default=0))
        tokens, logps = torch.full(shape, self.pad_id), torch.zeros(shape)
        for row, (output, length) in enumerate(zip(outputs, lengths, strict=True)):
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
        """Return the log-probabilities of given completions (teacher forcing).

        Row i of the B rows is completion_ids[i] after prompts[i]. Probabilities are those of softmax(logits /
        temperature), at any temperature; temperature 0 counts as 1. top_k=K adds the K most likely tokens of
        every position. entropy is None unless top_k is the whole vocabulary, because vLLM returns only the
        requested part of a distribution, and each number as a Python object. There are no logits. A batch has
        at most batch_tokens tokens (default: as many as give four million numbers). vLLM does not use its
        prefix cache here.
        Raises SdlabError for return_logits=True, unequal list lengths, an empty prompt, and a row too long
        for the model.
        """
        from vllm import SamplingParams as Request

        if return_logits:
            raise SdlabError(
                "return_logits=True is not possible with vLLM, which returns log-probabilities; "
                'ask for top_k=..., or use engine="torch"'
            )
        lengths = check_scored(prompts, completion_ids, temperature, top_k, self.vocab)
        longest, width = max(lengths, default=0), top_k or 0
        prompt_ids = self.encode(prompts, longest)
        shape = (len(prompts), longest)
        mask = torch.arange(longest)[None] < torch.tensor(lengths, dtype=torch.long)[:, None]
        logps = torch.zeros(shape)
        top_logps = torch.zeros(*shape, width) if width else None
        top_ids = torch.zeros(*shape, width, dtype=torch.long) if width else None
        request = Request(
            max_tokens=1, temperature=0.0, prompt_logprobs=width, flat_logprobs=True, detokenize=False
        )
        rows, done = [i for i in range(len(prompts)) if lengths[i]], len(lengths) - sum(map(bool, lengths))
        while rows:
            # Take as many rows as the limit allows, and at least one.
            sizes = np.cumsum([len(prompt_ids[i]) + lengths[i] for i in rows])
            count = max(1, int((sizes <= (batch_tokens or NUMBERS // (width + 1))).sum()))
            batch, rows = rows[:count], rows[count:]
            sequences = [prompt_ids[i] + list(completion_ids[i]) for i in batch]
            inner = progress and (
                lambda rows_done, _, before=done: progress(before + rows_done, len(prompts))
            )
            outputs = self.run(sequences, [request] * count, temperature or 1.0, inner)
            done += count
            for i, output in zip(batch, outputs, strict=True):
                # For every token of the sequence after the first: the token itself, then the `width` most
                # likely ones.
                entries = output.prompt_logprobs
                part = slice(-lengths[i] * (width + 1), None)
                values = torch.tensor(entries.logprobs[part]).view(lengths[i], width + 1)
                logps[i, : lengths[i]] = values[:, 0]
                if top_logps is not None and top_ids is not None:
                    top_logps[i, : lengths[i]] = values[:, 1:]
                    token_ids = torch.tensor(entries.token_ids[part]).view(lengths[i], width + 1)
                    top_ids[i, : lengths[i]] = token_ids[:, 1:]
        entropy = None
        if top_logps is not None and width == self.vocab:
            entropy = torch.special.entr(top_logps.exp()).sum(-1).masked_fill(~mask, 0.0)
        return Scores(logps, mask, entropy, None, top_logps, top_ids)

    def run(
        self,
        rows: list[list[int]],
        requests: list,
        temperature: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> list:
        """Return vLLM's outputs for token ids `rows`, in order.

        Each row has its own request settings. The model's logits are divided by `temperature`. An interrupt
        removes the unfinished requests from the engine. The engine then stays usable if it runs in this
        process, as it does on a CPU.
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
            with suppress(Exception):  # an engine that has died cannot abort requests
                engine.abort_request(names, internal=True)
            if is_out_of_memory(error):
                raise OutOfMemory(
                    f"vLLM ran out of memory ({first_line(error, 120)}); "
                    "lower gpu_memory_utilization or batch_tokens"
                ) from error
            if type(error).__name__ == "EngineDeadError":
                raise SdlabError(
                    f"vLLM's engine has died ({first_line(error, 120)}); its messages above say why; "
                    "load the model again"
                ) from error
            raise
        return sorted(outputs, key=lambda output: int(output.request_id))

    def check_temperature(self) -> None:
        """Check that this vLLM uses the temperature set in the model, in sampling and in scoring.

        Half the temperature must double the difference between the log-probabilities of two tokens.
        Raises SdlabError otherwise, because every log-probability at another temperature would be wrong.
        """
        from vllm import SamplingParams as Request

        request = Request(
            max_tokens=1, temperature=0.0, logprobs=5, prompt_logprobs=5, flat_logprobs=True, detokenize=False
        )
        gaps = []
        for temperature in (1.0, 0.5):
            output = self.run([[self.eos_ids[0]] * 2], [request], temperature)[0]
            logprobs = (output.prompt_logprobs.logprobs, output.outputs[0].logprobs.logprobs)
            gaps.append([values[-5] - values[-1] for values in logprobs])
        if not np.allclose(gaps[1], 2 * np.array(gaps[0]), rtol=0.02, atol=0.02):
            raise SdlabError(
                f"vLLM {require_vllm()} does not let sdlab set the temperature of this model's "
                'log-probabilities; use engine="torch"'
            )

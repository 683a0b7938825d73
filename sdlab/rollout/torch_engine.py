"""The default rollout engine: torch, any Hugging Face causal language model, CPU or GPU."""

import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from sdlab import paths
from sdlab.rollout import qwen3
from sdlab.rollout.cache import HFDecoder
from sdlab.rollout.checks import explain_out_of_memory
from sdlab.rollout.loop import Counter, Unit, plan_units, run_all, sample_unit
from sdlab.rollout.memory import CACHES, cache_bytes, half_copy, head_tokens, weight_bytes
from sdlab.rollout.operators import has_fast_bfloat16
from sdlab.rollout.packed import PackedQwen3, supports
from sdlab.rollout.rows import check_scored, collect, encode, end_ids
from sdlab.rollout.sampling import row_uniforms
from sdlab.rollout.scoring import completion_logits, plan_batches
from sdlab.rollout.stops import stop_check
from sdlab.rollout.types import Rollouts, SamplingParams, Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Parameters up to which worker threads are faster than threads inside each operation: the weights fit the
# CPU's caches.
SMALL = 20_000_000
# Rows per unit of a small model: its keys and values stay in the CPU's caches.
UNIT_ROWS = 128
# Tokens of a prompt that take about as long as reading the weights once: a token needs one product per
# weight. "cpu" comes from rough numbers of one core: some 10 GB a second, which are 2.5 billion weights in
# float32, and some 15 billion products a second. "cuda" is an estimate that was never measured: a large GPU
# computes some 300 products while it reads one weight in bfloat16. The numbers only choose which prompts are
# sampled together. They change the time and no result.
PROMPT_TOKENS = {"cpu": 6, "cuda": 300}


class TorchEngine:
    """Sample from a model and score with it.

    model: a Hugging Face causal language model; it may be trained between calls, because no weights are kept.
    tokenizer: its tokenizer. fast=False forces the path that works for every architecture (for tests and
    comparisons). bf16=True computes the layers' matrix products in bfloat16, whatever the type of the
    weights; on the generic path the whole model runs on a copy of the weights in bfloat16. Results are on the
    CPU.
    """

    trains: ClassVar[bool] = True
    cheap_entropy: ClassVar[bool] = True

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        *,
        fast: bool = True,
        bf16: bool = False,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.fast, self.bf16 = fast, bf16
        if bf16 and model.device.type == "cpu" and not has_fast_bfloat16():
            warnings.warn(
                "this processor has no instructions for bfloat16; bf16=True will be slower than float32 here",
                stacklevel=2,
            )
        self.eos_ids = end_ids(getattr(model, "generation_config", None), tokenizer)
        pad = tokenizer.pad_token_id
        self.pad_id = pad if isinstance(pad, int) else self.eos_ids[0]

    @property
    def context_length(self) -> int | None:
        """Return how many tokens of prompt and completion the model accepts, or None where unknown."""
        return getattr(self.model.config, "max_position_embeddings", None)

    def generate(
        self, prompts: list[str], params: SamplingParams, progress: Callable[[int, int], None] | None = None
    ) -> Rollouts:
        """Sample G = params.num_generations completions of each of P prompts.

        The prompts are already rendered with the chat template. progress(done, total) counts rows. A row's
        tokens depend only on the model, its prompt, the seed and the number of equal prompts before it. They
        do not depend on the order of the batch, on padding or on other rows, except for the last bits of
        floating-point sums, which differ between matrix shapes.
        Raises SdlabError for an empty prompt, a prompt too long for the model, and logits that are not
        finite.
        """
        prompt_ids = self.encode(prompts, params.max_completion_length)
        total, limit = len(prompts) * params.num_generations, params.max_completion_length
        uniforms = torch.from_numpy(row_uniforms(prompts, params))
        threads = self.threads()
        max_rows = self.unit_rows(prompt_ids, limit, total, threads)
        counter = Counter(total, progress)
        stop = threading.Event()
        # Created outside inference mode, because the trainer may differentiate through operations on it.
        tokens = torch.full((total, limit), self.pad_id)
        chances = torch.ones(total, limit)
        device = self.model.device
        eos, stops = torch.tensor(self.eos_ids, device=device), stop_check(self.tokenizer)
        lower = (
            f"lower max_completion_length (now {limit}), sample fewer prompts at a time, "
            'or load the model with dtype="bfloat16"'
        )
        with explain_out_of_memory(lower), frozen(self.model), torch.inference_mode():
            weights = self.packed()
            model = self.generic_model(weights)
            # A larger model on the generic path computes the padding of prompts and reads that of caches.
            bytes_ = weight_bytes(model)
            share = bytes_ / (PROMPT_TOKENS.get(device.type, PROMPT_TOKENS["cuda"]) * limit)
            padding = weights is None and threads == 1
            traffic = (bytes_, cache_bytes(model), share) if padding else None
            units = plan_units(prompt_ids, params.num_generations, max_rows, traffic)

            def job(unit: Unit) -> None:
                with torch.inference_mode():  # it belongs to a thread, so every worker enters it
                    if weights is None:
                        decoder = HFDecoder(model, self.pad_id)
                    else:
                        decoder = qwen3.Qwen3Decoder(self.model, weights, self.pad_id)
                    drawn = uniforms[unit.rows].T.contiguous().to(device)
                    sampled = sample_unit(decoder, unit, drawn, params, eos, stop, counter.add, stops)
                    tokens[unit.rows], chances[unit.rows] = (part.T.cpu() for part in sampled)

            run_all([lambda unit=unit: job(unit) for unit in units], threads, counter.report, stop)
        return collect(
            self.tokenizer, self.eos_ids, self.pad_id, prompts, prompt_ids, params, tokens, chances.log()
        )

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

        Row i of the B rows is completion_ids[i] after prompts[i]. Probabilities and entropy are those of
        softmax(logits / temperature); temperature 0 counts as 1. top_k=K adds the K most likely tokens of
        every position. return_logits=True adds all logits before temperature, B*T*V floats. Equal prompts are
        computed once per batch. A batch has at most batch_tokens padded tokens; the default is 65,536 on a
        GPU and 4,096 on a CPU, where larger batches do not fit the caches. There are no gradients.
        Raises SdlabError for unequal list lengths, an empty prompt, and a row too long for the model.
        """
        head: Any = self.model.get_output_embeddings()  # of a causal language model, so it is there
        vocab = head.weight.shape[0]
        lengths = check_scored(prompts, completion_ids, temperature, top_k, vocab)
        longest = max(lengths, default=0)
        prompt_ids = self.encode(prompts, longest)
        shape = (len(prompts), longest)
        logps, entropy = torch.zeros(shape), torch.zeros(shape)
        mask = torch.arange(longest)[None] < torch.tensor(lengths, dtype=torch.long)[:, None]
        if batch_tokens is None:
            batch_tokens = 4_096 if self.model.device.type == "cpu" else 65_536
        lower = f"lower batch_tokens (now {batch_tokens}), or score fewer completions at a time"
        lower += (
            f", or leave return_logits off ({len(prompts)} x {longest} x {vocab} numbers)"
            if return_logits
            else ""
        )
        with explain_out_of_memory(lower):
            logits_out = torch.zeros(*shape, vocab) if return_logits else None
            top_logps = torch.zeros(*shape, top_k) if top_k else None
            top_ids = torch.zeros(*shape, top_k, dtype=torch.long) if top_k else None
        names = {text: i for i, text in enumerate(dict.fromkeys(prompts))}
        counter = Counter(len(prompts), progress)

        def keep(part: torch.Tensor, token_ids: torch.Tensor, at: tuple[torch.Tensor, torch.Tensor]) -> None:
            all_logps = (part / temperature if temperature not in (0, 1) else part).log_softmax(-1)
            logps[at] = all_logps.gather(-1, token_ids[:, None]).squeeze(-1).cpu()
            if logits_out is not None:
                logits_out[at] = part.cpu()
            if top_k and top_logps is not None and top_ids is not None:
                best = all_logps.topk(top_k, dim=-1)
                top_logps[at], top_ids[at] = best.values.cpu(), best.indices.cpu()
            entropy[at] = torch.special.entr(all_logps.exp_()).sum(-1).cpu()

        def job(rows: list[int]) -> None:
            with torch.inference_mode():
                rows = [i for i in rows if lengths[i]]
                if not rows:
                    return
                texts = list(dict.fromkeys(prompts[i] for i in rows))
                place = {text: n for n, text in enumerate(texts)}
                first = {prompts[i]: prompt_ids[i] for i in rows}
                ids = [list(completion_ids[i]) for i in rows]
                task = ([first[text] for text in texts], [place[prompts[i]] for i in rows], ids, self.pad_id)
                if weights is None:
                    logits = completion_logits(model, *task)
                else:
                    logits = qwen3.completion_logits(self.model, weights, *task)
                # The M completion tokens of these rows, one after another: their ids, and their places in the
                # result.
                token_ids = torch.tensor([token for row in ids for token in row], device=logits.device)
                at_row = torch.tensor([i for i in rows for _ in range(lengths[i])])
                at_token = torch.cat([torch.arange(lengths[i]) for i in rows])
                for start in range(0, len(token_ids), at_once):
                    block = slice(start, start + at_once)
                    keep(logits[block].float(), token_ids[block], (at_row[block], at_token[block]))
                counter.add(len(rows))

        at_once = head_tokens(vocab)
        batches = plan_batches(
            lengths,
            [len(ids) for ids in prompt_ids],
            [names[text] for text in prompts],
            batch_tokens,
            at_once,
        )
        with explain_out_of_memory(lower), frozen(self.model), torch.inference_mode():
            weights = self.packed()
            model = self.generic_model(weights)
            run_all([lambda rows=rows: job(rows) for rows in batches], self.threads(), counter.report)
        return Scores(logps, mask, entropy, logits_out, top_logps, top_ids)

    def encode(self, prompts: list[str], room: int) -> list[list[int]]:
        """Return the token ids of rendered prompts; no special tokens are added.

        Raises SdlabError for an empty prompt, and for one that leaves fewer than `room` tokens of the model's
        context.
        """
        return encode(
            self.tokenizer, prompts, room, getattr(self.model.config, "max_position_embeddings", None)
        )

    def packed(self) -> PackedQwen3 | None:
        """Pack the model's current weights for the fast path, or return None if it needs the generic path."""
        return PackedQwen3(self.model, self.bf16) if self.fast and supports(self.model) else None

    def in_bf16(self, bf16: bool) -> "TorchEngine":
        """Return an engine on the same model with this setting of bf16: this engine if it already has it."""
        if bf16 == self.bf16:
            return self
        return TorchEngine(self.model, self.tokenizer, fast=self.fast, bf16=bf16)

    def generic_model(self, weights: PackedQwen3 | None) -> "PreTrainedModel":
        """Return the model for the generic path: with weights in bfloat16 if `bf16` is on.

        torch's autocast would convert every weight at every token. The fast path, with packed weights,
        converts to bfloat16 itself, and rounds fewer values.
        """
        generic = weights is None and self.bf16 and self.model.dtype != torch.bfloat16
        return half_copy(self.model) if generic else self.model

    def threads(self) -> int:
        """Return the number of worker threads for this model."""
        return worker_threads(self.model)

    def unit_rows(self, prompt_ids: list[list[int]], limit: int, total: int, threads: int) -> int:
        """Return the number of rows per unit.

        Memory for the cache limits it, and it is small enough that every worker thread gets its share.
        """
        length = max(map(len, prompt_ids), default=0) + limit
        per_row = cache_bytes(self.model) * length
        if self.model.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.model.device)
            # The rest is for activations and for dropping rows.
            return max(1, int(free * 0.4) // max(1, per_row))
        rows = max(1, CACHES // max(1, per_row * threads))
        return min(rows, UNIT_ROWS, max(16, -(-total // threads))) if threads > 1 else min(rows, 256)


def worker_threads(model: "PreTrainedModel") -> int:
    """Return the number of worker threads.

    That is as many as torch may use for a small model on a CPU, otherwise one.
    """
    small = model.device.type == "cpu" and sum(p.numel() for p in model.parameters()) <= SMALL
    return min(torch.get_num_threads(), paths.cpu_limit() or 10**6) if small else 1


class frozen:
    """Set the model to evaluation mode (no dropout) inside a `with`, and restore its mode afterwards."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.was_training = self.model.training
        self.model.eval()

    def __exit__(self, *_: object) -> None:
        self.model.train(self.was_training)

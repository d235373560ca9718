"""Decodes windows into tokens: greedy or sampled, in batches, by Whisper's rules for timestamps and tokens."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pbx.speech.whisper_network import KeyValueCache, Network
from pbx.speech.whisper_network import Stopped as Stopped

if TYPE_CHECKING:
    from torch import Tensor
    from whisper.tokenizer import Tokenizer

# openai-whisper's values (the defaults of `whisper.transcribe` and `DecodingOptions`).
MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH_PROB = 0.6
_LOOP, _LOOP_WORDS = 48, 8  # this many tokens in a row of so few kinds are a loop without end
_LATEST_FIRST_S = 1.0  # the latest first timestamp


@dataclass(frozen=True)
class DecodingRules:
    """How tokens are chosen. The defaults are Whisper's; the benchmark uses others to fix the amount of work."""

    max_tokens: int | None = None  # per window; None: half of the model's text context, as in Whisper
    end: bool = True  # False: the end of the text is never chosen
    retry: bool = True  # False: poor results are not decoded again


@dataclass(frozen=True)
class Decoded:
    """The result of decoding one window."""

    tokens: tuple[int, ...]  # with timestamps, without the tokens that open and close a text
    logprobs: tuple[float, ...]  # of each token
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float
    ended: bool  # False: it ran out of room or into a loop, so the end is missing
    attention: "Tensor"  # (tokens + 1 if ended, heads, positions): scores before the softmax

    @property
    def good(self) -> bool:
        """Whether it passes Whisper's quality tests; silence passes."""
        if self.avg_logprob < MIN_AVG_LOGPROB and self.no_speech_prob > MAX_NO_SPEECH_PROB:
            return True
        return self.ended and self.compression_ratio <= MAX_COMPRESSION_RATIO and self.avg_logprob >= MIN_AVG_LOGPROB


def compression_ratio(text: str) -> float:
    """Return how far zlib compresses a text: high when it repeats itself; 0 for an empty text."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


@dataclass
class _DecodingRows:
    """The state of the rows that are still being decoded."""

    window: list[int]  # index of each row's result
    tokens: list[list[int]]
    logprobs: list[list[float]]
    attention: "list[list[Tensor]]"
    floor: "Tensor"  # the earliest timestamp that may follow, counted from 0.00
    stamps: "Tensor"  # (rows, 2): whether the last and the second last token were timestamps

    def select(self, rows: list[int]) -> "_DecodingRows":
        return _DecodingRows(
            [self.window[r] for r in rows],
            [self.tokens[r] for r in rows],
            [self.logprobs[r] for r in rows],
            [self.attention[r] for r in rows],
            self.floor[rows],
            self.stamps[rows],
        )


@dataclass
class Decoder:
    """Decodes batches of encoded windows."""

    network: Network
    rules: DecodingRules = field(default_factory=DecodingRules)

    def detect_languages(self, encoded: "Tensor") -> "Tensor":
        """Return probabilities (windows, languages), in the order of the tokenizer's `all_language_codes`."""
        import torch

        tokenizer = self.network.tokenizer(None)
        cache = self.network.new_cache(encoded, 1)
        first = torch.full((len(encoded), 1), tokenizer.sot, device=encoded.device)
        states, _ = self.network.step(first, cache)
        logits = self.network.logits(states[:, -1])
        return logits[:, list(tokenizer.all_language_tokens)].softmax(dim=-1)

    def decode(
        self,
        encoded: "Tensor",
        languages: Sequence[str | None],
        temperature: float = 0.0,
        samples: int = 1,
    ) -> list[Decoded]:
        """Decode encodings (windows, positions, state); of several samples per window, return the most likely.

        Raises Stopped when the network's `stop` is set meanwhile.
        """
        import torch

        network, tokenizer = self.network, self.network.tokenizer(None)
        # The same sound gives the same text in every run, sampled or not.
        self._generator = torch.Generator(network.device).manual_seed(0)
        opening = [list(network.tokenizer(code).sot_sequence) for code in languages]
        room = network.dims.n_text_ctx - len(opening[0]) - 1
        most = min(self.rules.max_tokens or network.dims.n_text_ctx // 2, room)
        count = len(encoded) * samples
        with torch.inference_mode():
            cache = network.new_cache(encoded, len(opening[0]) + most)
            if samples > 1:
                cache = cache.select(torch.arange(len(encoded)).repeat_interleave(samples))
            first = torch.tensor(opening, device=network.device).repeat_interleave(samples, dim=0)
            states, scores = network.step(first, cache)
            silent = self._no_speech(states[:, 0], tokenizer)
            rows = _DecodingRows(
                list(range(count)),
                [[] for _ in range(count)],
                [[] for _ in range(count)],
                [[] for _ in range(count)],
                torch.zeros(count, dtype=torch.long, device=network.device),
                torch.ones(count, 2, dtype=torch.bool, device=network.device),
            )
            ended = self._write(states[:, -1], scores, cache, rows, most, temperature, tokenizer)
        results = [_result(rows, r, silent[r], temperature, r in ended, tokenizer) for r in range(count)]
        groups = [results[i : i + samples] for i in range(0, count, samples)]
        return [max(group, key=lambda one: one.avg_logprob) for group in groups]

    def _no_speech(self, states: "Tensor", tokenizer: "Tokenizer") -> list[float]:
        probabilities = self.network.logits(states).softmax(dim=-1)
        return [float(p) for p in probabilities[:, tokenizer.no_speech]]

    def _write(
        self,
        states: "Tensor",
        scores: "Tensor",
        cache: KeyValueCache,
        rows: _DecodingRows,
        most: int,
        temperature: float,
        tokenizer: "Tokenizer",
    ) -> set[int]:
        """Decode until every row has ended or is full; fill the lists of `rows` and return the rows that ended."""
        suppressed = self._suppressed(tokenizer)
        ended: set[int] = set()
        for index in range(most):
            logits = self.network.logits(states)
            logits.index_fill_(1, suppressed, -float("inf"))
            _apply_rules(logits, rows, index == 0, tokenizer, self.network.dims.n_audio_ctx)
            chosen, likely = self._choose(logits, temperature)
            written, probable = chosen.tolist(), likely.tolist()
            going: list[int] = []
            for row, token in enumerate(written):
                rows.logprobs[row].append(probable[row])
                rows.attention[row].append(scores[row])
                if token == tokenizer.eot:
                    ended.add(rows.window[row])
                else:
                    rows.tokens[row].append(token)
                    going.append(row)
            if self.rules.retry and index % 8 == 7:
                going = [row for row in going if not _loops(rows.tokens[row])]
            if not going:
                break
            if len(going) < len(written):  # ended rows leave the batch
                rows, cache, chosen = rows.select(going), cache.select(chosen.new_tensor(going)), chosen[going]
            stamp = chosen >= tokenizer.timestamp_begin
            _move_floor(rows, chosen - tokenizer.timestamp_begin, stamp)
            if index + 1 < most:
                states, scores = self.network.step(chosen[:, None], cache)
                states = states[:, -1]
        return ended

    def _choose(self, logits: "Tensor", temperature: float) -> "tuple[Tensor, Tensor]":
        import torch

        if temperature == 0:
            chosen = logits.argmax(dim=-1)
        else:
            chances = (logits / temperature).softmax(dim=-1)
            chosen = torch.multinomial(chances, 1, generator=self._generator)[:, 0]
        return chosen, logits.log_softmax(dim=-1).gather(1, chosen[:, None])[:, 0]

    def _suppressed(self, tokenizer: "Tokenizer") -> "Tensor":
        import torch

        special = (tokenizer.transcribe, tokenizer.translate, tokenizer.sot, tokenizer.sot_prev, tokenizer.sot_lm)
        never = {*tokenizer.non_speech_tokens, *special, tokenizer.no_speech, tokenizer.no_timestamps}
        if not self.rules.end:
            never.add(tokenizer.eot)
        return torch.tensor(sorted(never), device=self.network.device)


def _loops(tokens: list[int]) -> bool:
    return len(tokens) >= _LOOP and len(set(tokens[-_LOOP:])) <= _LOOP_WORDS


def _apply_rules(logits: "Tensor", rows: _DecodingRows, first: bool, tokenizer: "Tokenizer", positions: int) -> None:
    """Apply Whisper's rules, in place: timestamps in pairs, never backwards, and when likelier than all text."""
    import torch

    never = -float("inf")
    begin = tokenizer.timestamp_begin
    stamps = logits[:, begin:]
    if first:
        logits[:, :begin] = never
        logits[:, begin + round(_LATEST_FIRST_S * positions / 30) + 1 :] = never
        return
    last, before = rows.stamps[:, 0], rows.stamps[:, 1]
    if bool((last & before).any()):
        stamps[last & before] = never
    if bool((last & ~before).any()):
        logits[:, : tokenizer.eot][last & ~before] = never
    stamps.masked_fill_(torch.arange(stamps.shape[1], device=logits.device) < rows.floor[:, None], never)
    pressing = stamps.logsumexp(dim=-1) > logits[:, :begin].amax(dim=-1)
    if bool(pressing.any()):
        logits[:, :begin][pressing] = never


def _move_floor(rows: _DecodingRows, stamps: "Tensor", stamped: "Tensor") -> None:
    """Update the earliest next timestamp: the same after one that closes a segment, later after one that opens it."""
    import torch

    closing = stamped & ~rows.stamps[:, 0]
    rows.floor = torch.where(stamped, torch.where(closing, stamps, stamps + 1), rows.floor)
    rows.stamps = torch.stack([stamped, rows.stamps[:, 0]], dim=1)


def _result(
    rows: _DecodingRows, row: int, silent: float, temperature: float, ended: bool, tokenizer: "Tokenizer"
) -> Decoded:
    import torch

    tokens, logprobs = rows.tokens[row], rows.logprobs[row]
    ratio = compression_ratio(tokenizer.decode(tokens).strip())
    average = sum(logprobs) / (len(tokens) + 1)
    attention = torch.stack(rows.attention[row])
    return Decoded(tuple(tokens), tuple(logprobs[: len(tokens)]), average, silent, ratio, temperature, ended, attention)

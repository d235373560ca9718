"""Whisper's network for batches of windows: openai-whisper's weights and layers, with a decoder loop of its own.

Every window keeps its encoding, so a second try needs no second encoding. Keys and values are cached in place, and
rows that have ended leave the batch. Importing this module imports no torch.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pbx.speech.audio_windows import WindowSamples

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from whisper.model import AudioEncoder, ModelDimensions, TextDecoder
    from whisper.tokenizer import Tokenizer

_WINDOW = 480_000  # samples in the encoder's window
_LIKELY = 32  # logits per row that are computed exactly


class Stopped(Exception):
    """Decoding was stopped by its event."""


@dataclass
class KeyValueCache:
    """The decoder's keys and values for each layer, each (rows, heads, positions, width)."""

    cross: "list[tuple[Tensor, Tensor]]"
    own: "list[tuple[Tensor, Tensor]]"  # room for `n_text_ctx` positions or fewer
    length: int = 0  # positions written

    def select(self, rows: "Tensor") -> "KeyValueCache":
        """Return the cache of some of the rows."""
        own = [(k[rows], v[rows]) for k, v in self.own]
        return KeyValueCache([(k[rows], v[rows]) for k, v in self.cross], own, self.length)


class Network:
    """A loaded model: openai-whisper's encoder and decoder with their weights.

    `alignment_heads`: each decoder layer's heads that follow the sound; `heads_known`: these are not guessed.
    `logits_layer`: an int8 layer from state to vocabulary, instead of the embedding's transpose.
    """

    def __init__(
        self,
        encoder: "AudioEncoder",
        decoder: "TextDecoder",
        dims: "ModelDimensions",
        dtype: "torch.dtype",
        alignment_heads: list[list[int]],
        heads_known: bool = False,
        logits_layer: Any = None,
    ) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self.dims = dims
        self.dtype = dtype
        self.device = decoder.positional_embedding.device
        self.heads_known = heads_known
        self._alignment_heads = alignment_heads
        self._logits_layer = logits_layer
        self._tokenizers: dict[str, Tokenizer] = {}
        self.stop: threading.Event | None = None  # once set, running calls raise Stopped within a layer

    @property
    def multilingual(self) -> bool:
        return bool(self.dims.n_vocab >= 51865)  # openai-whisper's test

    @property
    def window_bytes(self) -> int:
        """The memory for decoding a window, in bytes: keys and values of all layers, for sound and text."""
        positions = self.dims.n_audio_ctx + self.dims.n_text_ctx // 2
        width = 2 if self.dtype.itemsize == 2 else 4
        return int(self.dims.n_text_layer * 2 * positions * self.dims.n_text_state * width)

    def _check(self) -> None:
        if self.stop is not None and self.stop.is_set():
            raise Stopped

    def tokenizer(self, language: str | None) -> "Tokenizer":
        """Return the tokenizer for a language. Raises ValueError for one that Whisper doesn't know."""
        from whisper.tokenizer import get_tokenizer

        key = language or "en"
        if key not in self._tokenizers:
            self._tokenizers[key] = get_tokenizer(
                self.multilingual,
                num_languages=self.dims.n_vocab - 51765 - self.multilingual,
                language=key,
                task="transcribe",
            )
        return self._tokenizers[key]

    def encode(self, sounds: Sequence[WindowSamples]) -> "Tensor":
        """Encode sounds of up to 30 s at 16 kHz, padded with silence as in training, to (windows, positions, state)."""
        import torch
        from whisper.audio import log_mel_spectrogram

        with torch.inference_mode():
            mels = [
                log_mel_spectrogram(np.ascontiguousarray(s), self.dims.n_mels, padding=_WINDOW - len(s)) for s in sounds
            ]
            # On a CPU, a batch gains nothing and takes more memory.
            groups = [[mel] for mel in mels] if self.device.type == "cpu" else [mels]
            return torch.cat([self._encode(torch.stack(group).to(self.device, self.dtype)) for group in groups])

    def _encode(self, mels: "Tensor") -> "Tensor":
        import torch

        gelu, encoder = torch.nn.functional.gelu, self.encoder
        x = gelu(encoder.conv2(gelu(encoder.conv1(mels)))).permute(0, 2, 1)
        x = (x + encoder.positional_embedding).to(self.dtype)
        for block in encoder.blocks:
            self._check()
            attn, normed = block.attn, _norm(block.attn_ln, x)
            x = x + attn.out(_mix(attn.query(normed), attn.key(normed), attn.value(normed), attn.n_head))
            x = x + block.mlp(_norm(block.mlp_ln, x))
        return _norm(encoder.ln_post, x)

    def new_cache(self, encoded: "Tensor", positions: int) -> KeyValueCache:
        """Return a cache for encoded windows (rows, positions, state), with room for `positions` tokens."""
        import torch

        rows = len(encoded)
        cross, own = [], []
        with torch.inference_mode():
            for block in self.decoder.blocks:
                self._check()
                heads = block.attn.n_head
                key = _split(block.cross_attn.key(encoded), heads)
                value = _split(block.cross_attn.value(encoded), heads)
                cross.append((key.contiguous(), value.contiguous()))
                shape = (rows, heads, positions, key.shape[-1])
                own.append((key.new_zeros(shape), key.new_zeros(shape)))
        return KeyValueCache(cross, own)

    def step(self, tokens: "Tensor", cache: KeyValueCache) -> "tuple[Tensor, Tensor]":
        """Process further tokens (rows, n); return their normed states and the last token's attention scores.

        The states are (rows, n, state) in fp32. The scores, before the softmax, are (rows, heads, positions), of the
        heads that follow the sound (Whisper's alignment heads).
        """
        import torch

        start, seen = cache.length, cache.length + tokens.shape[1]
        scores: list[Tensor] = []
        with torch.inference_mode():
            x = self.decoder.token_embedding(tokens) + self.decoder.positional_embedding[start:seen]
            x = x.to(self.dtype)
            mask = self.decoder.mask[start:seen, :seen] if tokens.shape[1] > 1 else None
            layers = zip(self.decoder.blocks, cache.cross, cache.own, self._alignment_heads, strict=True)
            for block, (cross_key, cross_value), (own_key, own_value), layer_heads in layers:
                self._check()
                heads = block.attn.n_head
                normed = _norm(block.attn_ln, x)
                own_key[:, :, start:seen] = _split(block.attn.key(normed), heads)
                own_value[:, :, start:seen] = _split(block.attn.value(normed), heads)
                query = _split(block.attn.query(normed), heads)
                found, _ = _attend(query, own_key[:, :, :seen], own_value[:, :, :seen], mask)
                x = x + block.attn.out(found)
                query = _split(block.cross_attn.query(_norm(block.cross_attn_ln, x)), heads)
                found, layer_scores = _attend(query, cross_key, cross_value)
                if layer_heads:
                    scores.append(layer_scores[:, layer_heads, -1])
                x = x + block.cross_attn.out(found)
                x = x + block.mlp(_norm(block.mlp_ln, x))
            state = _norm(self.decoder.ln, x.float())
        cache.length = seen
        return state, torch.cat(scores, dim=1)

    def logits(self, state: "Tensor") -> "Tensor":
        """Return logits (rows, vocabulary) in fp32 for states (rows, state).

        bf16 and int8 logits are too coarse to rank likely tokens, so the highest are computed again in fp32.
        """
        import torch

        weight = self.decoder.token_embedding.weight
        with torch.inference_mode():
            if self._logits_layer is None and weight.dtype == torch.float32:
                exact: Tensor = state @ weight.T
                return exact
            if self._logits_layer is not None:
                rough: Tensor = self._logits_layer(state).float()
            else:
                rough = torch.nn.functional.linear(state.to(weight.dtype), weight).float()
            likely = rough.topk(_LIKELY, dim=-1).indices
            exact = (weight[likely].float() @ state[:, :, None])[..., 0]
            rough.scatter_(1, likely, exact)
            return rough


def _norm(layer: Any, x: "Tensor") -> "Tensor":
    """Apply a layer norm with fp32 weights to states of any precision, without a copy in fp32."""
    import torch

    if x.device.type != "cpu" or x.dtype == torch.float16:
        normed: Tensor = layer(x)
        return normed
    return torch.nn.functional.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def _mix(query: "Tensor", key: "Tensor", value: "Tensor", heads: int) -> "Tensor":
    """Compute the encoder's attention, each (rows, positions, state). For bf16 on a CPU, one head at a time.

    That is 2.8 times as fast, because one head's 1500 × 1500 scores fit in the CPU's cache; torch's fused kernel is as
    slow as in fp32.
    """
    import torch

    query, key, value = (_split(x, heads) for x in (query, key, value))
    if query.dtype != torch.bfloat16 or query.device.type != "cpu":
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).flatten(start_dim=2)
    out = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
    scale = query.shape[-1] ** -0.5
    for row in range(len(query)):
        for head in range(heads):
            scores = (query[row, head] * scale) @ key[row, head].T
            out[row, :, head] = scores.softmax(dim=-1) @ value[row, head]
    return out.flatten(start_dim=2)


def _split(x: "Tensor", heads: int) -> "Tensor":
    """Reshape (rows, n, state) to (rows, heads, n, width)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _attend(query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor | None" = None) -> "tuple[Tensor, Tensor]":
    """Compute attention by plain products: with one query per row, five times as fast as torch's fused kernel."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    found = scores.float().softmax(dim=-1).to(value.dtype) @ value
    return found.transpose(1, 2).flatten(start_dim=2), scores

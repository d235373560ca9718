"""Whisper's network for many windows at once: openai-whisper's own weights and layers, a decoder loop of our own.

Every window keeps its encoding, so that a second try costs no second encoding; the keys and values of what was decoded
are kept in place; rows that have ended leave the batch. Importing this imports no torch.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pbx.speech.windows import WindowSamples

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from whisper.model import AudioEncoder, ModelDimensions, TextDecoder
    from whisper.tokenizer import Tokenizer

_WINDOW = 480_000  # samples that the encoder reads
_LIKELY = 32  # logits of a row that are computed exactly


class Stopped(Exception):
    """Somebody set the event that stops decoding."""


@dataclass
class Memory:
    """What the decoder looks at while it writes: keys and values of each layer, (rows, heads, positions, width)."""

    cross: "list[tuple[Tensor, Tensor]]"
    own: "list[tuple[Tensor, Tensor]]"  # room for `n_text_ctx` positions or fewer
    length: int = 0  # positions written

    def keep(self, rows: "Tensor") -> "Memory":
        """The same for some of the rows."""
        own = [(k[rows], v[rows]) for k, v in self.own]
        return Memory([(k[rows], v[rows]) for k, v in self.cross], own, self.length)


class Network:
    """A loaded model: openai-whisper's encoder and decoder with their weights.

    `aligned`: for each layer of the decoder, the heads that follow the sound; `heads_known`: that is no guess.
    `logits_layer`: from state to vocabulary in place of the embedding's transpose (int8).
    """

    def __init__(
        self,
        encoder: "AudioEncoder",
        decoder: "TextDecoder",
        dims: "ModelDimensions",
        dtype: "torch.dtype",
        aligned: list[list[int]],
        heads_known: bool = False,
        logits_layer: Any = None,
    ) -> None:
        self.encoder = encoder
        self.decoder = decoder
        self.dims = dims
        self.dtype = dtype
        self.device = decoder.positional_embedding.device
        self.heads_known = heads_known
        self._aligned = aligned
        self._logits_layer = logits_layer
        self._tokenizers: dict[str, Tokenizer] = {}
        self.stop: threading.Event | None = None  # once set, all that is under way ends in Stopped, within a layer

    @property
    def multilingual(self) -> bool:
        return bool(self.dims.n_vocab >= 51865)  # as openai-whisper tells it

    @property
    def window_bytes(self) -> int:
        """Memory that a window takes while it is decoded: keys and values of all layers, for its sound and its text."""
        positions = self.dims.n_audio_ctx + self.dims.n_text_ctx // 2
        width = 2 if self.dtype.itemsize == 2 else 4
        return int(self.dims.n_text_layer * 2 * positions * self.dims.n_text_state * width)

    def _check(self) -> None:
        if self.stop is not None and self.stop.is_set():
            raise Stopped

    def tokenizer(self, language: str | None) -> "Tokenizer":
        """Raises ValueError for a language that Whisper doesn't know."""
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
        """(windows, positions, state) for sounds of up to 30 s at 16 kHz, filled up with silence as in training."""
        import torch
        from whisper.audio import log_mel_spectrogram

        with torch.inference_mode():
            mels = [
                log_mel_spectrogram(np.ascontiguousarray(s), self.dims.n_mels, padding=_WINDOW - len(s)) for s in sounds
            ]
            # Together they gain nothing on a CPU, and take the more memory.
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

    def remember(self, encoded: "Tensor", positions: int) -> Memory:
        """Begin to decode: (rows, positions, state) of encoded windows, with room for so many tokens."""
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
        return Memory(cross, own)

    def step(self, tokens: "Tensor", memory: Memory) -> "tuple[Tensor, Tensor]":
        """Read tokens (rows, n) on; return the states behind them, normed, and where the last one looked.

        The states are (rows, n, state) in fp32; the looks (rows, heads, positions), before the softmax, of the heads
        that follow the sound (Whisper's alignment heads).
        """
        import torch

        start, seen = memory.length, memory.length + tokens.shape[1]
        looks = []
        with torch.inference_mode():
            x = self.decoder.token_embedding(tokens) + self.decoder.positional_embedding[start:seen]
            x = x.to(self.dtype)
            mask = self.decoder.mask[start:seen, :seen] if tokens.shape[1] > 1 else None
            layers = zip(self.decoder.blocks, memory.cross, memory.own, self._aligned, strict=True)
            for block, (cross_key, cross_value), (own_key, own_value), aligned in layers:
                self._check()
                heads = block.attn.n_head
                normed = _norm(block.attn_ln, x)
                own_key[:, :, start:seen] = _split(block.attn.key(normed), heads)
                own_value[:, :, start:seen] = _split(block.attn.value(normed), heads)
                query = _split(block.attn.query(normed), heads)
                found, _ = _attend(query, own_key[:, :, :seen], own_value[:, :, :seen], mask)
                x = x + block.attn.out(found)
                query = _split(block.cross_attn.query(_norm(block.cross_attn_ln, x)), heads)
                found, looked = _attend(query, cross_key, cross_value)
                if aligned:
                    looks.append(looked[:, aligned, -1])
                x = x + block.cross_attn.out(found)
                x = x + block.mlp(_norm(block.mlp_ln, x))
            state = _norm(self.decoder.ln, x.float())
        memory.length = seen
        return state, torch.cat(looks, dim=1)

    def logits(self, state: "Tensor") -> "Tensor":
        """(rows, vocabulary) in fp32 for states (rows, state).

        bf16 and int8 leave logits too coarse to tell likely tokens apart, so those at the top are computed again.
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
    """A layer norm whose weights are fp32, of states in any precision, without a copy of them in fp32."""
    import torch

    if x.device.type != "cpu" or x.dtype == torch.float16:
        normed: Tensor = layer(x)
        return normed
    return torch.nn.functional.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)


def _mix(query: "Tensor", key: "Tensor", value: "Tensor", heads: int) -> "Tensor":
    """The encoder's attention, (rows, positions, state) each. In bf16 a CPU is 2.8 times as fast a head at a time.

    One head's 1500 × 1500 looks stay in the cache, which torch's fused kernel, as slow as in fp32, gains nothing from.
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
            looked = (query[row, head] * scale) @ key[row, head].T
            out[row, :, head] = looked.softmax(dim=-1) @ value[row, head]
    return out.flatten(start_dim=2)


def _split(x: "Tensor", heads: int) -> "Tensor":
    """(rows, n, state) → (rows, heads, n, width)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def _attend(query: "Tensor", key: "Tensor", value: "Tensor", mask: "Tensor | None" = None) -> "tuple[Tensor, Tensor]":
    """Attention by plain products: for one query a row they are five times as fast as torch's fused kernel on a CPU."""
    looked = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if mask is not None:
        looked = looked + mask.to(looked.dtype)
    found = looked.float().softmax(dim=-1).to(value.dtype) @ value
    return found.transpose(1, 2).flatten(start_dim=2), looked

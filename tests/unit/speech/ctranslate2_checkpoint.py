"""Converts an openai-whisper checkpoint to CTranslate2's format, so faster-whisper needs no download."""

import itertools
import json
from pathlib import Path
from typing import Any

import tokenizers
import torch
import whisper
from ctranslate2.converters.utils import fuse_linear
from ctranslate2.specs.common_spec import LayerNormSpec, LinearSpec
from ctranslate2.specs.whisper_spec import WhisperSpec
from whisper.model import MultiHeadAttention, ResidualAttentionBlock, Whisper
from whisper.tokenizer import Tokenizer, get_tokenizer

# GPT-2's mapping of bytes to printable characters, for a vocabulary in JSON.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTE_TO_CHARACTER = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(256 + at) for at, byte in enumerate(byte for byte in range(256) if byte not in _PRINTABLE)
}


def convert(model: Path | Whisper, out_dir: Path, quantization: str | None = None) -> Path:
    """Write `model` (a checkpoint's path or a loaded model in fp32) to `out_dir` and return `out_dir`.

    `quantization`: None, or CTranslate2's name of a type, such as "int8" or "float16".
    """
    loaded = whisper.load_model(str(model), device="cpu") if isinstance(model, Path) else model
    dims = loaded.dims
    tokenizer = get_tokenizer(loaded.is_multilingual, num_languages=loaded.num_languages)
    out_dir.mkdir(parents=True, exist_ok=True)
    spec = WhisperSpec(dims.n_audio_layer, dims.n_audio_head, dims.n_text_layer, dims.n_text_head)
    with torch.no_grad():
        _fill(spec, loaded)
    spec.register_vocabulary(_vocabulary(tokenizer, dims.n_vocab))
    _configure(spec, loaded, tokenizer)
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(out_dir))
    _write_tokenizer(tokenizer, out_dir / "tokenizer.json")
    (out_dir / "preprocessor_config.json").write_text(json.dumps({"feature_size": dims.n_mels}))
    return out_dir


def _fill(spec: WhisperSpec, model: Whisper) -> None:
    encoder, decoder = model.encoder, model.decoder
    for conv_spec, conv in ((spec.encoder.conv1, encoder.conv1), (spec.encoder.conv2, encoder.conv2)):
        conv_spec.weight, conv_spec.bias = conv.weight.float(), conv.bias.float()
    spec.encoder.position_encodings.encodings = encoder.positional_embedding.float()
    _set_norm(spec.encoder.layer_norm, encoder.ln_post)
    spec.decoder.embeddings.weight = decoder.token_embedding.weight.float()
    spec.decoder.projection.weight = decoder.token_embedding.weight.float()
    spec.decoder.position_encodings.encodings = decoder.positional_embedding.float()
    _set_norm(spec.decoder.layer_norm, decoder.ln)
    for layer_spec, block in itertools.chain(
        zip(spec.encoder.layer, encoder.blocks, strict=True), zip(spec.decoder.layer, decoder.blocks, strict=True)
    ):
        _set_block(layer_spec, block)


def _set_block(spec: Any, block: ResidualAttentionBlock) -> None:
    _set_attention(spec.self_attention, block.attn, is_self_attention=True)
    _set_norm(spec.self_attention.layer_norm, block.attn_ln)
    if block.cross_attn is not None:
        _set_attention(spec.attention, block.cross_attn, is_self_attention=False)
        _set_norm(spec.attention.layer_norm, block.cross_attn_ln)
    _set_linear(spec.ffn.linear_0, block.mlp[0])
    _set_linear(spec.ffn.linear_1, block.mlp[2])
    _set_norm(spec.ffn.layer_norm, block.mlp_ln)


def _set_attention(spec: Any, attention: MultiHeadAttention, *, is_self_attention: bool) -> None:
    query, key, value = (_set_linear(LinearSpec(), x) for x in (attention.query, attention.key, attention.value))
    if is_self_attention:
        fuse_linear(spec.linear[0], [query, key, value])
    else:
        fuse_linear(spec.linear[0], [query])
        fuse_linear(spec.linear[1], [key, value])
    _set_linear(spec.linear[-1], attention.out)


def _set_linear(spec: LinearSpec, linear: torch.nn.Linear) -> LinearSpec:
    spec.weight = linear.weight.float()
    if linear.bias is not None:
        spec.bias = linear.bias.float()
    return spec


def _set_norm(spec: LayerNormSpec, norm: torch.nn.LayerNorm) -> None:
    spec.gamma, spec.beta = norm.weight.float(), norm.bias.float()


def _configure(spec: WhisperSpec, model: Whisper, tokenizer: Tokenizer) -> None:
    special = (tokenizer.transcribe, tokenizer.translate, tokenizer.sot, tokenizer.sot_prev, tokenizer.sot_lm)
    spec.config.suppress_ids = sorted({*tokenizer.non_speech_tokens, *special})
    spec.config.suppress_ids_begin = [*tokenizer.encode(" "), tokenizer.eot]
    spec.config.lang_ids = list(tokenizer.all_language_tokens)
    spec.config.alignment_heads = model.alignment_heads.indices().T.tolist()


def _vocabulary(tokenizer: Tokenizer, size: int) -> list[str]:
    special = {index: name for name, index in tokenizer.encoding._special_tokens.items()}
    return [
        special.get(index) or _to_printable(tokenizer.encoding.decode_single_token_bytes(index))
        for index in range(size)
    ]


def _to_printable(token: bytes) -> str:
    return "".join(_BYTE_TO_CHARACTER[byte] for byte in token)


def _write_tokenizer(tokenizer: Tokenizer, target: Path) -> None:
    """Write the vocabulary in the format of the tokenizers library; byte-pair merges are derived from the ranks."""
    ranks: dict[bytes, int] = tokenizer.encoding._mergeable_ranks
    merges: list[tuple[str, str]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        halves = ((token[:at], token[at:]) for at in range(1, len(token)))
        mergeable = [(a, b) for a, b in halves if a in ranks and b in ranks]
        merges += [
            (_to_printable(a), _to_printable(b))
            for a, b in sorted(mergeable, key=lambda ab: (ranks[ab[0]], ranks[ab[1]]))
        ]
    converted = tokenizers.Tokenizer(
        tokenizers.models.BPE({_to_printable(token): rank for token, rank in ranks.items()}, merges)
    )
    converted.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    converted.decoder = tokenizers.decoders.ByteLevel()
    special = sorted(tokenizer.encoding._special_tokens.items(), key=lambda item: item[1])
    converted.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name, _ in special])
    converted.save(str(target))

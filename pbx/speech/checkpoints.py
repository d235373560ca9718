"""Loads a Whisper checkpoint in the precision that is fastest on this machine.

benchmarks/transcribe.py measures the gain of bf16 and int8. Importing this module imports no torch.
"""

import base64
import gzip
import os
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pbx import operating_system
from pbx.errors import ModelError
from pbx.speech.whisper_network import Network

if TYPE_CHECKING:
    import torch
    from whisper.model import AudioEncoder, ModelDimensions, TextDecoder

Precision = Literal["auto", "fp32", "bf16", "int8", "fp16"]

_SMALLER = "Choose a smaller model (WHISPER_MODEL: tiny, base, small, medium, large-v3, turbo), or free memory."
_OVERHEAD_BYTES = 300_000_000  # for torch, the sound, and decoding one window
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 4}  # per weight; int8 is made from fp32 layer by layer
_MAX_STATE, _MAX_LAYERS = 8192, 64  # large-v3 has 1280 and 32
_MAX_BF16_TIME = 0.8  # share of fp32's time above which bf16 isn't worth its rounding


def default_threads() -> int:
    """Return OMP_NUM_THREADS, as torch itself does; otherwise all cores, less one for the pages when there are three.

    With two cores, one thread would halve the speed; the worker's low priority is then enough for the pages.
    """
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(threads) > 0:
        return int(threads)
    cores = operating_system.usable_cores()
    return cores - 1 if cores > 2 else cores


def pick_device(wanted: str) -> str:
    """Return the device to use; "auto" is torch's first GPU, or the CPU. Raises ModelError without it."""
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ModelError(f"torch knows no device {wanted!r}.", "Set WHISPER_DEVICE to auto, cpu or cuda.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError("There is no GPU that torch can use.", "Set WHISPER_DEVICE to auto or cpu.")
    return wanted


def load_network(weights: Path, model: str, device: str, precision: Precision) -> Network:
    """Load a checkpoint in openai-whisper's format. `model`: its name, which selects the heads for word times.

    Raises ModelError when the file is no checkpoint, damaged, or too large for the free memory.
    """
    import torch
    import whisper

    where = pick_device(device)
    chosen = _pick_precision(where, precision)
    checkpoint = _read(weights)
    dims = _dimensions(checkpoint, weights)
    encoder, decoder = _build(checkpoint["model_state_dict"], dims, weights, where, chosen)
    heads = whisper._ALIGNMENT_HEADS.get(model) or whisper._ALIGNMENT_HEADS.get(weights.stem)
    if heads is not None and len(_unpacked(heads)) != dims.n_text_layer * dims.n_text_head:
        heads = None  # a custom model under a known model's name
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(chosen, torch.float32)
    if chosen == "int8":
        _quantise_layers(encoder, decoder)
    logits_layer = _quantised_logits(decoder) if chosen in ("bf16", "int8") and where == "cpu" else None
    return Network(encoder, decoder, dims, dtype, _alignment_heads(dims, heads), heads is not None, logits_layer)


def _pick_precision(device: str, precision: Precision) -> Literal["fp32", "bf16", "int8", "fp16"]:
    import torch

    if precision != "auto":
        return precision
    if device != "cpu":
        return "fp16"
    if _is_faster(torch.bfloat16):
        return "bf16"
    return "int8" if torch.backends.quantized.engine != "none" else "fp32"


def _is_faster(dtype: "torch.dtype") -> bool:
    """Time layers of the encoder's and the decoder's shape, for a few ms: without CPU support, bf16 is slow."""
    import torch

    def best(run: Callable[[], Any]) -> float:
        run()
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            run()
            times.append(time.perf_counter() - begun)
        return min(times)

    linear = torch.nn.functional.linear
    for rows, columns in ((256, 512), (8, 8192)):
        x, weight = torch.randn(rows, 512), torch.randn(columns, 512)
        x_short, weight_short = x.to(dtype), weight.to(dtype)

        def plain(x: "torch.Tensor" = x, weight: "torch.Tensor" = weight) -> Any:
            return linear(x, weight)

        def short(x: "torch.Tensor" = x_short, weight: "torch.Tensor" = weight_short) -> Any:
            return linear(x, weight)

        if best(short) > _MAX_BF16_TIME * best(plain):
            return False
    return True


def _read(weights: Path) -> dict[str, Any]:
    """Return a checkpoint's content; the weights of a zip file (all of openai-whisper's are) are read when used."""
    import torch

    what = f"{weights.name} is not a Whisper checkpoint"
    fix = "Download the model again, or give the path of a checkpoint in openai-whisper's format (.pt)."
    try:
        read_bytes = _read_bytes(weights)
        _check_memory(read_bytes, weights)
        checkpoint: Any = torch.load(weights, map_location="cpu", weights_only=True, mmap=not read_bytes)
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"{weights.name} can't be read: {error.strerror}.", fix) from None
    except MemoryError:
        raise _too_large(weights, weights.stat().st_size) from None
    except Exception:  # pickle and torch raise anything for other bytes
        raise ModelError(f"{what}.", fix) from None
    parts = [checkpoint.get(part) for part in ("dims", "model_state_dict")] if isinstance(checkpoint, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise ModelError(f"{what}: it lacks the model's dimensions or its weights.", fix)
    return dict(checkpoint)


def _read_bytes(weights: Path) -> int:
    """Return the memory that reading a file takes: none for an uncompressed zip, torch's format, which is mapped."""
    if not zipfile.is_zipfile(weights):
        return weights.stat().st_size
    with zipfile.ZipFile(weights) as archive:
        parts = archive.infolist()
    is_stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
    return 0 if is_stored else sum(part.file_size for part in parts)


def _dimensions(checkpoint: dict[str, Any], weights: Path) -> "ModelDimensions":
    from whisper.model import ModelDimensions

    try:
        dims = ModelDimensions(**checkpoint["dims"])
    except TypeError:
        raise _damaged(weights) from None
    if not all(type(size) is int for size in vars(dims).values()) or not _has_whisper_shape(dims):
        raise _damaged(weights)
    return dims


def _has_whisper_shape(dims: "ModelDimensions") -> bool:
    """Whether a model has Whisper's shape: 30 s of sound, its vocabulary, and matching layers."""
    heads = (dims.n_audio_head, dims.n_text_head)
    return (
        dims.n_mels in (80, 128)
        and dims.n_audio_ctx == 1500
        and dims.n_text_ctx == 448
        and dims.n_vocab in (51864, 51865, 51866)
        and dims.n_audio_state == dims.n_text_state
        and 4 <= dims.n_text_state <= _MAX_STATE
        and dims.n_text_state % 2 == 0
        and all(0 < layers <= _MAX_LAYERS for layers in (dims.n_audio_layer, dims.n_text_layer))
        and all(0 < count <= dims.n_text_state and dims.n_text_state % count == 0 for count in heads)
    )


def _build(
    state: dict[str, Any], dims: "ModelDimensions", weights: Path, device: str, precision: str
) -> "tuple[AudioEncoder, TextDecoder]":
    import torch
    from whisper.model import AudioEncoder, TextDecoder

    with torch.device("meta"):  # they use the checkpoint's memory
        audio = (dims.n_audio_state, dims.n_audio_head, dims.n_audio_layer)
        text = (dims.n_text_state, dims.n_text_head, dims.n_text_layer)
        encoder = AudioEncoder(dims.n_mels, dims.n_audio_ctx, *audio)
        decoder = TextDecoder(dims.n_vocab, dims.n_text_ctx, *text)
    halves = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    wanted = {name: tensor.shape for name, tensor in halves.state_dict().items()}
    if wanted != {name: _shape_of(tensor) for name, tensor in state.items()}:
        raise _damaged(weights)
    needed = sum(shape.numel() for shape in wanted.values()) * _BYTES[precision]
    if device == "cpu":
        _check_memory(needed, weights)
    short = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    try:
        kept = {name: tensor.to(device, _dtype_of(name, short), copy=True) for name, tensor in state.items()}
        decoder.mask = torch.full((dims.n_text_ctx, dims.n_text_ctx), -float("inf"), device=device).triu_(1)
    except (RuntimeError, MemoryError) as error:
        raise (_too_large(weights, needed) if is_out_of_memory(error) else _damaged(weights)) from None
    halves.load_state_dict(kept, assign=True)
    halves.eval().requires_grad_(False)
    return encoder, decoder


def _shape_of(tensor: object) -> "torch.Size | None":
    """Return the shape of a plain floating-point tensor; None for anything else."""
    import torch

    is_plain = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided and tensor.is_floating_point()
    return tensor.shape if isinstance(tensor, torch.Tensor) and is_plain else None


def _alignment_heads(dims: "ModelDimensions", dump: bytes | None) -> list[list[int]]:
    """Return each layer's heads that follow the sound: openai-whisper's list, or all heads of the later half."""
    if dump is None:
        half = dims.n_text_layer // 2
        return [list(range(dims.n_text_head)) if layer >= half else [] for layer in range(dims.n_text_layer)]
    return [np.flatnonzero(row).tolist() for row in _unpacked(dump).reshape(dims.n_text_layer, dims.n_text_head)]


def _unpacked(dump: bytes) -> NDArray[np.bool_]:
    return np.frombuffer(gzip.decompress(base64.b85decode(dump)), np.bool_)


def _damaged(weights: Path) -> ModelError:
    return ModelError(f"{weights.name} is damaged: its weights don't fit its dimensions.", "Download the model again.")


def _dtype_of(name: str, short: "torch.dtype") -> "torch.dtype":
    """Return the type of a weight. Norms and positions stay in fp32, as Whisper needs them."""
    import torch

    return torch.float32 if "_ln." in name or ".ln" in name or "positional" in name else short


def _quantise_layers(*modules: "torch.nn.Module") -> None:
    """Convert every linear layer to int8, in place."""
    import torch
    from whisper.model import Linear

    both = torch.nn.ModuleList(modules)
    for module in list(both.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Linear):  # quantize_dynamic ignores Whisper's own subclass
                setattr(module, name, _plain_linear(child.weight, child.bias))
    _quantise(both)


def _quantised_logits(decoder: "TextDecoder") -> Any:
    """Return an int8 layer for the logits, a small model's largest product: 4 times as fast as bf16."""
    import torch

    weight = torch.nn.Parameter(decoder.token_embedding.weight.float(), requires_grad=False)
    return _quantise(torch.nn.Sequential(_plain_linear(weight, None)))


def _plain_linear(weight: "torch.nn.Parameter", bias: "torch.nn.Parameter | None") -> "torch.nn.Linear":
    import torch

    layer = torch.nn.Linear(1, 1, bias=bias is not None, device="meta")
    layer.weight, layer.bias = weight, bias  # type: ignore[assignment]
    layer.out_features, layer.in_features = weight.shape
    return layer


def _quantise(module: "torch.nn.Module") -> "torch.nn.Module":
    """Convert a module's linear layers to int8, with a scale for each row of weights; in place."""
    import torch

    quantise: Any = torch.ao.quantization.quantize_dynamic
    with _quiet():
        return quantise(module, {torch.nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}, inplace=True)  # type: ignore[no-any-return]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide torch's warning that this quantisation will move to another package: its version is pinned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the CPU or a GPU."""
    import torch

    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")
    )


def _check_memory(needed: int, weights: Path) -> None:
    free = operating_system.free_memory_bytes()
    if needed and needed + _OVERHEAD_BYTES > free:
        raise _too_large(weights, needed, free)


def _too_large(weights: Path, needed: int, free: int | None = None) -> ModelError:
    left = "" if free is None else f"; {free / 1e9:.1f} GB are free"
    return ModelError(
        f"{weights.name} needs about {(needed + _OVERHEAD_BYTES) / 1e9:.1f} GB of memory{left}.", _SMALLER
    )

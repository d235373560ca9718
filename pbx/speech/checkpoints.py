"""A Whisper checkpoint from its file into memory, in the precision that this machine is fastest with.

What bf16 and int8 gain was measured (benchmarks/transcribe.py); importing this imports no torch.
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

from pbx.errors import ModelError
from pbx.speech.network import Network

if TYPE_CHECKING:
    import torch
    from whisper.model import AudioEncoder, ModelDimensions, TextDecoder

Precision = Literal["auto", "fp32", "bf16", "int8", "fp16"]

_SMALLER = "Choose a smaller model (WHISPER_MODEL: tiny, base, small, medium, large-v3, turbo), or free memory."
_OVERHEAD_BYTES = 300_000_000  # of torch, the sound and one window's decoding
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 4}  # a weight; int8 is made from fp32 layer by layer
_MOST_STATE, _MOST_LAYERS = 8192, 64  # large-v3 has 1280 and 32
_MOST_HEADS = 32  # that follow the sound, of those that are only guessed to: each keeps 1500 numbers a token
_WORTH = 0.8  # bf16 takes at most so much of fp32's time, or it isn't worth its rounding


def default_threads() -> int:
    """What OMP_NUM_THREADS says, as torch itself has it; else all cores, but one for the pages where there are three.

    With two, one thread would halve the speed, and the worker's niceness has to do for the pages.
    """
    if (told := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(told) > 0:
        return int(told)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores - 1 if cores > 2 else cores


def pick_device(wanted: str) -> str:
    """ "auto" is the first GPU where torch finds one. Raises ModelError for a device that isn't there."""
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
    """Load a checkpoint in openai-whisper's format. `model`: its name, by which the heads for word times are known.

    Raises ModelError when it is none, damaged, or too large for the memory that is free.
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
        heads = None  # a model of one's own under a known one's name
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(chosen, torch.float32)
    if chosen == "int8":
        _quantise_layers(encoder, decoder)
    logits_layer = _quantised_logits(decoder) if chosen in ("bf16", "int8") and where == "cpu" else None
    return Network(encoder, decoder, dims, dtype, _aligned(dims, heads), heads is not None, logits_layer)


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
    """Try a layer of the encoder's shape and one of the decoder's: a few ms. Without the instructions bf16 is slow."""
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

        if best(short) > _WORTH * best(plain):
            return False
    return True


def _read(weights: Path) -> dict[str, Any]:
    """The checkpoint's content; of a zip file (as all of openai-whisper's) the numbers are read when they are used."""
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
    except Exception:  # whatever pickle and torch make of other bytes
        raise ModelError(f"{what}.", fix) from None
    parts = [checkpoint.get(part) for part in ("dims", "model_state_dict")] if isinstance(checkpoint, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise ModelError(f"{what}: it lacks the model's dimensions or its weights.", fix)
    return dict(checkpoint)


def _read_bytes(weights: Path) -> int:
    """Bytes of memory that reading a file takes; none where it is a zip of stored parts, as torch writes it: a map."""
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
    if not all(type(size) is int for size in vars(dims).values()) or not _is_whispers(dims):
        raise _damaged(weights)
    return dims


def _is_whispers(dims: "ModelDimensions") -> bool:
    """Whether a model has Whisper's shape: 30 s of sound, its vocabulary, and layers that fit one another."""
    heads = (dims.n_audio_head, dims.n_text_head)
    return (
        dims.n_mels in (80, 128)
        and dims.n_audio_ctx == 1500
        and dims.n_text_ctx == 448
        and dims.n_vocab in (51864, 51865, 51866)
        and dims.n_audio_state == dims.n_text_state
        and 4 <= dims.n_text_state <= _MOST_STATE
        and dims.n_text_state % 2 == 0
        and all(0 < layers <= _MOST_LAYERS for layers in (dims.n_audio_layer, dims.n_text_layer))
        and all(0 < count <= dims.n_text_state and dims.n_text_state % count == 0 for count in heads)
    )


def _build(
    state: dict[str, Any], dims: "ModelDimensions", weights: Path, device: str, precision: str
) -> "tuple[AudioEncoder, TextDecoder]":
    import torch
    from whisper.model import AudioEncoder, TextDecoder

    with torch.device("meta"):  # without memory of their own: they take the checkpoint's
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
    """The shape of a plain tensor of floating-point numbers; None for anything else."""
    import torch

    is_plain = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided and tensor.is_floating_point()
    return tensor.shape if isinstance(tensor, torch.Tensor) and is_plain else None


def _aligned(dims: "ModelDimensions", dump: bytes | None) -> list[list[int]]:
    """The heads of each layer that follow the sound: those openai-whisper knows of a model, else the later half."""
    if dump is None:
        half = dims.n_text_layer // 2
        return [list(range(dims.n_text_head)) if layer >= half else [] for layer in range(dims.n_text_layer)]
    return [np.flatnonzero(row).tolist() for row in _unpacked(dump).reshape(dims.n_text_layer, dims.n_text_head)]


def _unpacked(dump: bytes) -> NDArray[np.bool_]:
    return np.frombuffer(gzip.decompress(base64.b85decode(dump)), np.bool_)


def _damaged(weights: Path) -> ModelError:
    return ModelError(f"{weights.name} is damaged: its weights don't fit its dimensions.", "Download the model again.")


def _dtype_of(name: str, short: "torch.dtype") -> "torch.dtype":
    """Norms and positions stay in fp32: Whisper computes with them so."""
    import torch

    return torch.float32 if "_ln." in name or ".ln" in name or "positional" in name else short


def _quantise_layers(*modules: "torch.nn.Module") -> None:
    """Make every linear layer int8, in place."""
    import torch
    from whisper.model import Linear

    both = torch.nn.ModuleList(modules)
    for module in list(both.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Linear):  # quantize_dynamic passes over Whisper's own subclass
                setattr(module, name, _plain_linear(child.weight, child.bias))
    _quantise(both)


def _quantised_logits(decoder: "TextDecoder") -> Any:
    """An int8 layer for the logits, the largest product of a small model: a quarter of the time that bf16 takes."""
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
    """The linear layers within it in int8, a scale for each row of their weights; in place."""
    import torch

    quantise: Any = torch.ao.quantization.quantize_dynamic
    with _quiet():
        return quantise(module, {torch.nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}, inplace=True)  # type: ignore[no-any-return]


@contextmanager
def _quiet() -> Iterator[None]:
    """torch announces that this kind of quantisation will move to another package; its version is pinned here."""
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
    free = free_memory()
    if needed and free is not None and needed + _OVERHEAD_BYTES > free:
        raise _too_large(weights, needed, free)


def _too_large(weights: Path, needed: int, free: int | None = None) -> ModelError:
    left = "" if free is None else f"; {free / 1e9:.1f} GB are free"
    return ModelError(
        f"{weights.name} needs about {(needed + _OVERHEAD_BYTES) / 1e9:.1f} GB of memory{left}.", _SMALLER
    )


def free_memory() -> int | None:
    """Bytes that a process may still take, by Linux's own account (a container's limit counts); None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        return None
    for folder, limit, used, idle in (
        ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            root = Path(folder)
            facts = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
            taken = int((root / used).read_text()) - int(facts[idle])  # cached files make room when asked
            found.append(int((root / limit).read_text()) - taken)
        except (OSError, ValueError, KeyError):  # not there, or "max"
            continue
    return min(found, default=None)

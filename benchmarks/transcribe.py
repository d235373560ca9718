"""Compares transcription with openai-whisper and faster-whisper: speed, memory, and word errors.

Speed is measured with random weights of a real model's dimensions, with the same number of tokens per window for each
engine, on a generated call of two channels, each voiced 45% of the time. It needs espeak-ng and takes about 10 minutes:
`python benchmarks/transcribe.py [speed] [memory] [errors]`.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1]))

from pbx.speech.decoding import DecodingRules
from pbx.speech.transcriber import TranscriptionSource
from pbx.speech.vad import find_voice
from pbx.speech.whisper import WhisperTranscriber
from tests.unit.speech.sounds import save_wav
from tests.unit.speech.synthetic_speech import CHECKPOINT, clips, errors_in

RATE_HZ = 16_000
TOKENS = 100  # per window
SIZES = {  # state, heads, and layers of encoder and decoder
    "tiny": (384, 6, 4),
    "base": (512, 8, 6),
    "small": (768, 12, 12),
}

Sound = npt.NDArray[np.float32]


def make_call(duration_s: float, voiced: float = 0.45) -> Sound:
    """Return two speakers in turns, (2, samples): sentences of a few seconds, each voiced for a share of the time."""
    chance, spoken = random.Random(7), clips(60, seed=7)
    sound = np.random.default_rng(7).normal(0, 2e-4, (2, int(duration_s * RATE_HZ))).astype(np.float32)
    at, voiced_s = 0.3, [0.0, 0.0]
    while True:
        turn = int(voiced_s[1] < voiced_s[0])
        begun_s = at
        for clip in chance.sample(spoken, chance.randint(1, 3)):  # the sentences of a turn, 0.15 s apart
            begin = int(at * RATE_HZ)
            if begin + len(clip.sound) > sound.shape[1]:
                return sound
            sound[turn, begin : begin + len(clip.sound)] += clip.sound
            at += len(clip.sound) / RATE_HZ + 0.15
        voiced_s[turn] += at - begun_s + 0.25  # as in voice detection, with 0.2 s on each side
        at = max(at + 0.1, sum(voiced_s) / (2 * voiced))  # a pause of the required length


def make_weights(path: Path, size: str) -> Path:
    """Return an untrained multilingual model of real dimensions."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    state, heads, layers = SIZES[size]
    torch.manual_seed(0)
    dims = ModelDimensions(80, 1500, state, heads, layers, 51865, 448, state, heads, layers)
    model = Whisper(dims)
    torch.nn.init.normal_(model.decoder.positional_embedding, std=0.02)
    torch.nn.init.normal_(model.decoder.token_embedding.weight, std=state**-0.5)
    torch.save({"dims": vars(dims), "model_state_dict": model.state_dict()}, path)
    return path


def openai_whisper(weights: Path, threads: int) -> Callable[[Sound], int]:
    """Run openai-whisper's transcribe() at one temperature, channel by channel; return the number of tokens."""
    import torch
    import whisper

    model = whisper.load_model(str(weights), device="cpu")
    end = whisper.tokenizer.get_tokenizer(True, num_languages=99).eot
    options: dict[str, Any] = {"language": "en", "temperature": 0.0, "condition_on_previous_text": False}
    options |= {"without_timestamps": True, "sample_len": TOKENS, "suppress_tokens": [-1, end], "fp16": False}

    def run(sound: Sound) -> int:
        torch.set_num_threads(threads)
        found = [model.transcribe(channel, **options) for channel in sound]
        return sum(len(segment["tokens"]) for result in found for segment in result["segments"])

    return run


def faster_whisper_int8(weights: Path, threads: int, batch: int, batched: bool = True) -> Callable[[Sound], int]:
    """Return faster-whisper in int8 with its batched pipeline and voice detection."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    from tests.unit.speech.ctranslate2_checkpoint import convert

    folder = convert(weights, weights.parent / f"{weights.stem}-ct2", "int8")
    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=threads)
    end = model.hf_tokenizer.token_to_id("<|endoftext|>")
    options: dict[str, Any] = {"language": "en", "temperature": 0.0, "beam_size": 1}
    options |= {"suppress_tokens": [-1, end], "without_timestamps": True, "vad_filter": True}
    options["max_new_tokens"] = 2 * TOKENS - 4  # CTranslate2 writes half of a text's greatest length, prompt included
    options |= {"batch_size": batch} if batched else {"condition_on_previous_text": False}
    engine: Any = BatchedInferencePipeline(model) if batched else model

    def run(sound: Sound) -> int:
        return sum(len(segment.tokens) for channel in sound for segment in engine.transcribe(channel, **options)[0])

    return run


def pbx_notebook(weights: Path, threads: int, batch: int, precision: Any) -> Callable[[Path], int]:
    import torch

    rules = DecodingRules(max_tokens=TOKENS, end=False, retry=False)
    engine = WhisperTranscriber(weights, weights.stem, "cpu", threads, precision, batch, rules=rules)

    def run(path: Path) -> int:
        torch.set_num_threads(threads)
        parts = list(engine.transcribe([TranscriptionSource(path, "en")]))
        assert parts[-1].is_last, parts[-1].error
        return sum(len(segment.words) for part in parts for segment in part.segments)

    return run


def measure_speed(folder: Path, size: str, duration_s: float, rounds: int, threads: int, batch: int) -> None:
    weights = make_weights(folder / f"{size}.pt", size)
    sound = make_call(duration_s)
    voice = [sum(s.end_s - s.start_s for s in find_voice(row)) / duration_s for row in sound]
    print(f"{size}, {duration_s:.0f} s, voiced {voice[0]:.0%} and {voice[1]:.0%}, {threads} threads, batch {batch}")
    path = save_wav(folder / "call.wav", list(sound))
    mixed = sound.mean(axis=0, keepdims=True)
    plain, pipeline = openai_whisper(weights, threads), faster_whisper_int8(weights, threads, batch)
    contenders: dict[str, Callable[[], int]] = {
        "openai-whisper transcribe(), per channel": lambda: plain(sound),
        "openai-whisper transcribe(), channels mixed": lambda: plain(mixed),
        "faster-whisper int8, batched pipeline, per channel": lambda: pipeline(sound),
    }
    for precision in ("auto", "int8", "fp32"):
        engine = pbx_notebook(weights, threads, batch, precision)
        contenders[f"pbx, {precision}"] = lambda engine=engine: engine(path)  # type: ignore[misc]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            started, busy = time.perf_counter(), time.process_time()
            count = run()
            times[name].append((time.perf_counter() - started, time.process_time() - busy))
            print(f"  {name}: {times[name][-1][0]:.1f} s, {times[name][-1][1]:.1f} s busy ({count})", flush=True)
    print("| | audio-seconds a second | pbx is faster by | by processor time |\n|---|---:|---:|---:|")
    middle = {name: (median(t[0] for t in taken), median(t[1] for t in taken)) for name, taken in times.items()}
    wall, busy = middle["pbx, auto"]
    for name, taken in middle.items():
        print(f"| {name} | {duration_s / taken[0]:.1f} | {taken[0] / wall:.2f} | {taken[1] / busy:.2f} |")


def measure_memory(folder: Path, size: str, minutes: float, threads: int, batch: int) -> None:
    """Measure the memory of transcribing an hour in a separate process, after that of loading the model."""
    weights = make_weights(folder / f"{size}.pt", size)
    call = make_call(600)
    path = save_wav(folder / "hour.wav", list(np.tile(call, (1, round(minutes / 10)))))
    code = f"""
import sys, time, psutil
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from benchmarks.transcribe import *
def peak():
    return next(int(l.split()[1]) / 1024 for l in open('/proc/self/status') if l.startswith('VmHWM'))
rules = DecodingRules(max_tokens=20, end=False, retry=False)
engine = WhisperTranscriber(Path({str(weights)!r}), 'base', 'cpu', {threads}, batch={batch}, rules=rules)
before, loading = psutil.Process().memory_info().rss / 2**20, peak()
started = time.perf_counter()
done = [part.done_s for part in engine.transcribe([TranscriptionSource(Path({str(path)!r}), 'en')])][-1]
print(f'{{done / 60:.0f}} minutes in {{time.perf_counter() - started:.0f}} s: '
      f'{{before:.0f}} MB with the model (loading it {{loading:.0f}}), {{peak():.0f}} MB at most')
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def measure_errors(folder: Path, count: int, threads: int) -> None:
    """Compute word error rates: transcribe() on clean clips, and the complete path (file, voice detection, windows)."""
    import whisper

    model = whisper.load_model(str(CHECKPOINT), device="cpu")
    print(
        "| | transcribe() | "
        + " | ".join(f"pbx, {p}" for p in ("fp32", "bf16", "int8"))
        + " |\n|---|---:|---:|---:|---:|"
    )
    for held_out in (False, True):
        spoken = clips(count, held_out, seed=11)
        paths = []
        for index, clip in enumerate(spoken):
            silence = np.zeros(RATE_HZ, np.float32)
            sound = np.concatenate([silence, clip.sound, silence])[None]
            paths.append(TranscriptionSource(save_wav(folder / f"{index}.wav", list(sound)), "en"))
        options = {"language": "en", "temperature": 0.0, "condition_on_previous_text": False, "fp16": False}
        texts = [[model.transcribe(clip.sound, **options)["text"] for clip in spoken]]
        for precision in ("fp32", "bf16", "int8"):
            engine = WhisperTranscriber(CHECKPOINT, "micro", "cpu", threads, precision)
            heard = [""] * count
            for part in engine.transcribe(paths):
                heard[part.source] += " ".join(segment.text for segment in part.segments) + " "
            texts.append(heard)
        rates = []
        for heard in texts:
            wrong, spoken_words = np.sum(
                [errors_in(clip.text, text) for clip, text in zip(spoken, heard, strict=True)], axis=0
            )
            rates.append(f"{100 * wrong / spoken_words:.1f}%")
        name = "other sentences and voices" if held_out else "sentences and voices of its training"
        print(f"| {count} clips, {name} | {' | '.join(rates)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=["speed", "memory", "errors", []], default=[])
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--clips", type=int, default=100)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not given.what or "errors" in given.what:
            measure_errors(folder, given.clips, given.threads)
        if not given.what or "speed" in given.what:
            measure_speed(folder, given.size, given.seconds, given.rounds, given.threads, given.batch)
        if not given.what or "memory" in given.what:
            measure_memory(folder, given.size, given.minutes, given.threads, given.batch)


if __name__ == "__main__":
    main()

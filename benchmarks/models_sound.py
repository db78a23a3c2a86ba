"""Sound for real models: voices between pauses, and tunes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.models_samples import Array, Random, Samples, open_session

RATE, CHUNK, CONTEXT = 16_000, 512, 64  # of the voice detectors
CHUNKS = 60  # to a recording
LOWEST = 21  # of a piano's keys, as a number of MIDI
VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
)
"""Formants in Hz of men's vowels (Peterson and Barney, 1952)."""


def speech(random: Random, length: int) -> tuple[Array, Array]:
    """Voice-like sound at 16 kHz between pauses, and where it is.

    A pulse train of wandering pitch through four resonances that glide between vowels, with
    hisses in between (Klatt, "Software for a cascade/parallel formant synthesizer", 1980).
    """
    sound, spoken = np.zeros(length), np.zeros(length, bool)
    at = int(random.integers(0, RATE // 2))
    pitch = random.uniform(90, 240)
    while at < length:
        end = min(length, at + int(RATE * random.uniform(0.5, 1.6)))
        sound[at:end] = _phrase(random, end - at, pitch)
        spoken[at:end] = True
        at = end + int(RATE * random.uniform(0.3, 0.9))
    sound *= 10 ** random.uniform(-1.2, -0.3) / max(1e-9, np.abs(sound).max())
    sound += random.normal(0, 10 ** random.uniform(-4, -2.3), length)
    return sound.astype(np.float32), spoken


def _phrase(random: Random, length: int, pitch: float) -> Array:
    from scipy.signal import lfilter  # a second of imports

    time = np.arange(length) / RATE
    wander = 1 + 0.12 * np.sin(2 * np.pi * random.uniform(0.5, 3) * time + random.uniform(0, 6))
    phase = np.cumsum(pitch * wander * (1.1 - 0.2 * time / max(time[-1], 0.1)) / RATE)
    source = np.diff(np.floor(phase), prepend=0.0) + random.normal(0, 0.02, length)
    source = lfilter([1], [1, -0.9], source)
    voice, at = np.zeros(length), 0
    while at < length:
        end = min(length, at + int(RATE * random.uniform(0.06, 0.22)))
        part = source[at:end]
        for formant, width in zip(
            (*VOWELS[int(random.integers(5))], 3500), (60, 90, 130, 200), strict=True
        ):
            tilt = np.exp(-np.pi * width / RATE)
            cosine = 2 * tilt * np.cos(2 * np.pi * formant * random.uniform(0.95, 1.1) / RATE)
            part = lfilter([1 - cosine + tilt**2], [1, -cosine, tilt**2], part)
        part = part * np.hanning(2 * len(part))[: len(part)][::-1] ** 0.3
        if random.random() < 0.2:
            part = lfilter([1, -0.95], [1], random.normal(0, 0.05, end - at))
        voice[at:end], at = part, end
    return voice


def recordings(random: Random, count: int) -> tuple[Array, Array]:
    """Chunks with the context before each, (count, CHUNKS, 576), and whether they are spoken."""
    chunks, spoken = [], []
    for _ in range(count):
        sound, truth = speech(random, CHUNKS * CHUNK)
        padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
        windows = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + CHUNK)[::CHUNK]
        chunks.append(windows)
        spoken.append(truth.reshape(CHUNKS, CHUNK).mean(axis=1) > 0.5)
    return np.stack(chunks), np.stack(spoken)


def voices(random: Random, count: int, model: Path) -> Samples:
    """Chunks of sound, each with the state that the model itself left before it."""
    session = open_session(model)
    names = [each.name for each in session.get_inputs()]
    chunks, spoken = recordings(random, -(-count // CHUNKS))
    rate = {"sr": np.array(RATE, np.int64)} if "sr" in names else {}
    states = []
    for recording in chunks:
        state = np.zeros((2, 1, 128), np.float32)
        for chunk in recording:
            states.append(state)
            _, state = session.run(None, {"input": chunk[None], "state": state, **rate})
    feeds = {
        "input": chunks.reshape(-1, 1, CONTEXT + CHUNK)[:count],
        "state": np.stack(states)[:count],
        **{name: value[None] for name, value in rate.items()},
    }
    return feeds, spoken.reshape(-1)[:count]


def voice_sequences(random: Random, count: int, model: Path) -> Samples:
    """Whole recordings, each from a state of zeros."""
    chunks, spoken = recordings(random, count)
    zeros = np.zeros((1, 1, 1, 128), np.float32)
    return {"input": chunks, "h": zeros, "c": zeros}, spoken


def tunes(random: Random, count: int, model: Path) -> Samples:
    """Two seconds of notes with overtones at 22,050 Hz, and which of 88 keys sound when."""
    rate, frames = 22_050, 172
    sound = np.zeros((count, 43_844, 1), np.float32)
    played = np.zeros((count, frames, 88), bool)
    time = np.arange(sound.shape[1]) / rate
    for tune, keys in zip(sound, played, strict=True):
        for _ in range(int(random.integers(3, 9))):
            note, begun = int(random.integers(36, 85)), float(random.uniform(0, 1.5))
            lasting = float(random.uniform(0.25, 0.9))
            inside = (time >= begun) & (time < begun + lasting)
            since = time[inside] - begun
            pitch = 440 * 2 ** ((note - 69) / 12)
            tone = sum(
                random.uniform(0.5, 1) / k**1.3 * np.sin(2 * np.pi * k * pitch * since)
                for k in range(1, 7)
            )
            envelope = np.minimum(since / 0.01, 1) * np.exp(-3 * since)
            tune[inside, 0] += random.uniform(0.05, 0.2) * envelope * tone
            rows = slice(round(begun * rate / 256), round((begun + lasting) * rate / 256))
            keys[rows, note - LOWEST] = True
        tune += random.normal(0, 0.001, tune.shape)
    return {"serving_default_input_2:0": sound}, played

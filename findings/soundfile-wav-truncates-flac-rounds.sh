#!/usr/bin/env bash
# Expected: soundfile rounds floats to the nearest 16-bit step, so a WAV and a FLAC of one signal hold the same samples.
# Happens: for WAV and AIFF every sample is rounded down (mean error -0.5 steps, a constant offset); FLAC rounds to nearest.
#   In 8-bit WAV the offset is 0.4 % of full scale.
# Matters: quiet clips. A voice with peak -50 dBFS gives other eGeMAPS values from WAV than from FLAC, so a corpus in
#   two containers, or a cache in another container than the corpus, is not one corpus. Round to int16 before writing.
# Source: libsndfile 1.2.2, src/pcm.c, the converters with clipping (soundfile switches clipping on).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 soundfile==0.14.0 opensmile==2.6.0
venv/bin/python - <<'PROGRAM'
from importlib.metadata import version

import numpy as np
import opensmile
import soundfile as sf

RATE = 16000


def make_voice():
    """Return 2 s of a voice-like sound: harmonics below three formants, four syllables."""
    time = np.arange(2 * RATE) / RATE
    pitch = 150 + 30 * np.sin(2 * np.pi * 0.6 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = np.zeros_like(time)
    for harmonic in range(1, 25):
        frequency = harmonic * 150
        gain = sum(1 / (1 + ((frequency - formant) / 120) ** 2) for formant in (600, 1300, 2500))
        voice += gain * np.sin(harmonic * phase)
    voice *= np.clip(np.sin(2 * np.pi * 2 * time), 0, 1) ** 0.5
    voice += 1e-4 * np.random.default_rng(1).standard_normal(time.size)
    return voice / np.abs(voice).max()


def mean_error(container, subtype, step, signal):
    sf.write(f"copy.{container}", signal, RATE, subtype=subtype)
    return float((sf.read(f"copy.{container}")[0] - signal).mean() / step)


print("soundfile", version("soundfile"), "with", sf.__libsndfile_version__)
signal = np.random.default_rng(0).uniform(-0.5, 0.5, 100_000)
for container, subtype, bits, expected in (
    ("wav", "PCM_16", 16, -0.5), ("flac", "PCM_16", 16, 0.0), ("aiff", "PCM_16", 16, -0.5),
    ("wav", "PCM_U8", 8, -0.5), ("flac", "PCM_S8", 8, 0.0),
):
    error = mean_error(container, subtype, 2.0 ** (1 - bits), signal)
    print(f"{container:4} {subtype:6} mean error {error:+.3f} steps")
    assert abs(error - expected) < 0.02, (container, subtype, error)

quiet = make_voice() * 10 ** (-50 / 20)
sf.write("quiet.wav", quiet, RATE, subtype="PCM_16")
sf.write("quiet.flac", quiet, RATE, subtype="PCM_16")
smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
wav, flac = (smile.process_signal(sf.read(f"quiet.{kind}")[0], RATE).iloc[0]
             for kind in ("wav", "flac"))
moved = int(((wav - flac).abs() > 0.01 * flac.abs() + 1e-9).sum())
print(f"voice with peak -50 dBFS, WAV against FLAC: {moved} of 88 eGeMAPS values differ by > 1 %")
assert moved >= 8, moved
PROGRAM

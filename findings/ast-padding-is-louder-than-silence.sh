#!/usr/bin/env bash
# Expected: the Audio Spectrogram Transformer's extractor pads a short clip to 10.24 s with what silence looks like.
# Happens: it pads with 0 before it normalises. Padding is +0.47, digital silence -1.28, and 99 % of the bins of a 2 s voice with
#   peak -20 dBFS lie below the padding: a clip followed by a loud, flat, never changing noise.
# Matters: emotion clips are 1 to 4 s, so 60 to 90 % of the input is padding. The same clip with zeros appended gives another
#   input, embeddings carry the duration, and there is no attention mask.
# Source: transformers, ASTFeatureExtractor: zero padding of log energies, then (x - mean) / (2 std), mean -4.27, std 4.57.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 torch==2.13.0 transformers==5.24.0
venv/bin/python - <<'PROGRAM'
import warnings
from importlib.metadata import version

import numpy as np
from transformers import ASTFeatureExtractor

warnings.simplefilter("ignore")
print("transformers", version("transformers"))
RATE = 16000
time = np.arange(2 * RATE) / RATE
voice = np.zeros_like(time)
for harmonic in range(1, 30):
    frequency = 150 * harmonic
    gain = sum(1 / (1 + ((frequency - formant) / 120) ** 2) for formant in (600, 1300, 2500))
    voice += gain * np.sin(2 * np.pi * frequency * time + harmonic)
voice *= np.abs(np.sin(2 * np.pi * 1.5 * time))
voice = 0.1 * voice / np.abs(voice).max()
voice += 3e-4 * np.random.default_rng(0).standard_normal(time.size)
extract = ASTFeatureExtractor()


def features(signal):
    signal = signal.astype(np.float32)
    return extract(signal, sampling_rate=RATE, return_tensors="np").input_values[0]


padded_by_extractor = features(voice)
padded_with_zeros = features(np.concatenate([voice, np.zeros(8 * RATE)]))
speech = padded_by_extractor[:190]
padding, silence = float(padded_by_extractor[-1, 0]), float(padded_with_zeros[500].mean())
share = float((speech < padding).mean())
print(f"shape {padded_by_extractor.shape}, of it speech 198 frames")
print(f"digital silence: {silence:.3f}; speech with peak -20 dBFS: {speech.min():.3f} to",
      f"{speech.max():.3f}; padding: {padding:.3f}")
print(f"{share:.1%} of the speech bins lie below the padding")
assert np.all(padded_by_extractor[200:] == padded_by_extractor[-1, 0])
assert abs(padding - 0.467) < 0.001 and abs(silence + 1.278) < 0.001
assert share > 0.9, share
PROGRAM

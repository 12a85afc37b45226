#!/usr/bin/env bash
# Expected: short-term energy is the mean square of a frame, so a clip 40 dB softer has 1/10000 of it.
# Happens: each call removes the mean and divides by the loudest sample first. Energy does not change with level, and one click of
#   0.06 ms that quadruples the peak divides the energy of all other frames by 16.
# Matters: energy is read as loudness, a main cue of arousal; here it says how peaky the clip is, and batches of clips cannot be
#   compared. Short clips of one recording differ by their loudest sample.
# Source: pyAudioAnalysis, ShortTermFeatures.feature_extraction, which calls dc_normalize on its input.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 scipy==1.17.1 matplotlib==3.11.2 tqdm==4.70.1 pyAudioAnalysis==0.3.14
venv/bin/python - <<'PROGRAM'
from importlib.metadata import version

import numpy as np
from pyAudioAnalysis import ShortTermFeatures

print("pyAudioAnalysis", version("pyAudioAnalysis"), "numpy", version("numpy"))
RATE = 16000
time = np.arange(2 * RATE) / RATE
voice = 8000 * np.sin(2 * np.pi * 180 * time) * np.abs(np.sin(2 * np.pi * 2 * time))


def mean_energy(signal):
    features, names = ShortTermFeatures.feature_extraction(signal, RATE, 800, 400)
    return float(features[names.index("energy")].mean())


click = voice.copy()
click[5000] = 32000
energies = {}
for name, signal in (("as recorded", voice), ("20 dB softer", voice / 10),
                     ("40 dB softer", voice / 100), ("as recorded, with one click", click)):
    energies[name] = mean_energy(signal.round())
    rms = np.sqrt(np.mean(signal**2))
    print(f"{name:28} true RMS {rms:7.1f}, mean short-term energy {energies[name]:.4f}")
base = energies["as recorded"]
assert abs(energies["20 dB softer"] / base - 1) < 0.02
assert abs(energies["40 dB softer"] / base - 1) < 0.02
assert energies["as recorded, with one click"] < 0.1 * base
PROGRAM

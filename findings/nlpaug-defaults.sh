#!/usr/bin/env bash
# Expected: default audio augmenters change a clip mildly, relative to its length and level.
# Happens: ShiftAug's 3 s, documented as the longest shift, is the shift of every clip: a shorter clip becomes silence and keeps
#   its label. MaskAug fills 0.2 to 0.8 of the clip with noise of standard deviation 1 (peaks above 4). NoiseAug has a fixed
#   level that falls with the clip's length: the same call gives an SNR of 33, 45 or -7 dB.
# Matters: emotion clips last 1 to 4 s. Training sets lose clips, or hold labelled noise, and no error is raised.
# Source: nlpaug 1.1.11, augmenter/audio and model/audio: shift (duration=3), mask (randn), noise (irfft of randn).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 nlpaug==1.1.11
venv/bin/python - <<'PROGRAM'
from importlib.metadata import version

import nlpaug.augmenter.audio as augment
import numpy as np

print("nlpaug", version("nlpaug"), "numpy", version("numpy"))
RATE = 16000
np.random.seed(0)


def make_tone(seconds, peak):
    return peak * np.sin(2 * np.pi * 200 * np.arange(int(seconds * RATE)) / RATE)


def run(augmenter, clip):
    output = augmenter.augment(clip)
    return np.asarray(output[0] if isinstance(output, list) else output)


def to_decibels(value):
    return 20 * np.log10(value)


for seconds in (2.0, 2.9, 4.0):
    shifted = run(augment.ShiftAug(sampling_rate=RATE), make_tone(seconds, 0.5))
    kept = np.count_nonzero(shifted) / shifted.size
    print(f"ShiftAug, default options, clip of {seconds} s: {kept:.0%} of the samples survive")
    assert (kept == 0) == (seconds < 3), kept

clip = make_tone(2.0, 0.05)
masked = run(augment.MaskAug(), clip)
noise = masked[masked != clip]
print(f"MaskAug, default options, clip with peak 0.05: noise with peak {np.abs(noise).max():.1f},",
      f"{to_decibels(noise.std() / clip.std()):.0f} dB louder than the clip")
assert np.abs(noise).max() > 2.5 and noise.size > 0.2 * clip.size

noiser = augment.NoiseAug(zone=(0, 1), coverage=1.0)
ratios = {}
for seconds, peak in ((1.0, 0.5), (16.0, 0.5), (1.0, 0.005)):
    clip = make_tone(seconds, peak)
    noise = run(noiser, clip) - clip
    ratios[seconds, peak] = to_decibels(clip.std() / noise.std())
    print(f"NoiseAug, clip of {seconds:.0f} s with peak {peak}: SNR {ratios[seconds, peak]:.0f} dB")
loud, long, soft = ratios.values()
assert abs(long - loud - 12) < 2 and abs(loud - soft - 40) < 2, ratios
PROGRAM

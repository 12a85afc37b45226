#!/usr/bin/env bash
# Expected: the library made for inference without Kaldi gives the same features for the same samples on every call,
#   or, if its printed default dither of 3e-05 is read as tiny, features that agree to two or three decimals.
# Happens: random noise at about -90 dBFS is added, and quiet bands differ between two calls by 1 to 2 in natural log energy.
# Matters: extractors that use it with default options (speaker and emotion encoders) give other embeddings on every run,
#   most for soft voices and digital pauses; caches and reproductions disagree. Set frame_opts.dither = 0.
# Source: kaldi-native-fbank, FrameExtractionOptions.dither; the value does not scale with the input.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 kaldi-native-fbank==1.23.0
venv/bin/python - <<'PROGRAM'
from importlib.metadata import version

import kaldi_native_fbank as knf
import numpy as np

RATE = 16000


def filterbank(signal, dither=None):
    options = knf.FbankOptions()
    if dither is not None:
        options.frame_opts.dither = dither
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(RATE, signal.astype(np.float32).tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(index) for index in range(bank.num_frames_ready)])


print("kaldi-native-fbank", version("kaldi-native-fbank"))
print("default dither", f"{knf.FbankOptions().frame_opts.dither:.0e}")
time = np.arange(2 * RATE) / RATE
voice = 0.3 * np.sin(2 * np.pi * 180 * time) * (np.sin(2 * np.pi * 2 * time) > 0)
floor = np.round(1e-4 * np.random.default_rng(0).standard_normal(time.size) * 32768) / 32768
for name, signal in (("digital pauses", voice), ("16-bit noise floor at -80 dBFS", voice + floor),
                     ("the same, 30 dB softer", 10 ** (-30 / 20) * (voice + floor))):
    default = np.abs(filterbank(signal) - filterbank(signal)).max()
    without = np.abs(filterbank(signal, 0.0) - filterbank(signal, 0.0)).max()
    print(f"{name}: two calls differ by up to {default:.2f} in log energy,",
          f"{without:.2f} without dither")
    assert without == 0
    assert default > 0.5, default
PROGRAM

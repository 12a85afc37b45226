#!/usr/bin/env bash
# Expected: soxr.resample of int16 zeros gives zeros, and two equal channels stay equal.
# Happens: for int16, and only for int16, libsoxr adds dither that python-soxr neither documents nor lets one switch off:
#   silence becomes noise of -1, 0, 1, and equal channels differ in almost half of their samples.
# Matters: tests for digital silence, for fake stereo (left equal to right) and for duplicates fail after resampling;
#   a side channel appears; the error is twice that of float and rounding. Resample as float, then round.
# Source: libsoxr, soxr.h, flag SOXR_NO_DITHER, which python-soxr leaves unset; python-soxr issues 10 and 11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 soxr==1.1.0
venv/bin/python - <<'PROGRAM'
from importlib.metadata import version

import numpy as np
import soxr

print("soxr", version("soxr"))
for kind in (np.int16, np.int32, np.float32):
    silence = soxr.resample(np.zeros(44100, kind), 44100, 16000)
    levels = sorted(float(level) for level in np.unique(silence))
    print(f"one second of zeros, {np.dtype(kind).name}: values {levels},",
          f"{np.mean(silence != 0):.0%} not zero")
    assert levels == ([-1, 0, 1] if kind is np.int16 else [0]), levels

voice = (8000 * np.sin(2 * np.pi * 200 * np.arange(44100) / 44100)).astype(np.int16)
stereo = soxr.resample(np.stack([voice, voice], axis=1), 44100, 16000)
differ = float(np.mean(stereo[:, 0] != stereo[:, 1]))
print(f"left and right equal before, different after in {differ:.0%} of the samples")
assert 0.3 < differ < 0.6, differ
side = stereo[:, 0].astype(int) - stereo[:, 1]
print("left minus right, before 0, after:", sorted(int(value) for value in np.unique(side)))
assert set(np.unique(side)) >= {-1, 0, 1}

as_float = soxr.resample(voice / 32768, 44100, 16000)
through_float = np.round(as_float * 32768)
error_int16 = float(np.std(stereo[:, 0] - as_float * 32768))
error_float = float(np.std(through_float - as_float * 32768))
print(f"error in 16-bit steps: {error_int16:.2f} from int16,",
      f"{error_float:.2f} by float and rounding")
assert error_int16 > 1.5 * error_float
PROGRAM

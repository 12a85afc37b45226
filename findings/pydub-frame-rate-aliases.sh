#!/usr/bin/env bash
# Expected: AudioSegment.set_frame_rate, in most recipes for speech data, filters before it drops samples.
# Happens: it interpolates between samples and has no low-pass filter: 9, 12 and 15 kHz come out at 7, 4 and 1 kHz,
#   from 48 kHz at full level, from 44.1 kHz at most 3 dB softer (soxr: below -85 dB).
# Matters: s and f sounds, breath and hiss of 44.1 and 48 kHz corpora fold into the band of speech at 16 kHz, and 16 kHz
#   corpora stay clean: a cross-corpus difference made by the converter.
# Source: pydub 0.25.1 calls audioop.ratecv, whose documentation describes a filter that is off by default.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 soxr==1.1.0 pydub==0.25.1
venv/bin/python - <<'PROGRAM'
import warnings
from importlib.metadata import version

import numpy as np
import soxr

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pydub import AudioSegment

print("pydub", version("pydub"), "soxr", version("soxr"))
for source in (44100, 48000):
    for frequency in (9000, 12000, 15000):
        tone = 16000 * np.sin(2 * np.pi * frequency * np.arange(2 * source) / source)
        tone = tone.astype(np.int16)
        segment = AudioSegment(tone.tobytes(), frame_rate=source, sample_width=2, channels=1)
        converted = np.array(segment.set_frame_rate(16000).get_array_of_samples(), float)
        spectrum = np.abs(np.fft.rfft(converted * np.hanning(converted.size)))
        peak = np.argmax(spectrum) * 16000 / converted.size
        left = 20 * np.log10(np.std(converted) / np.std(tone))
        reference = soxr.resample(tone.astype(float), source, 16000)
        other = 20 * np.log10(np.std(reference[1600:-1600]) / np.std(tone) + 1e-6)
        print(f"{source} to 16000 Hz: tone of {frequency} Hz comes out at {peak:.0f} Hz,",
              f"{left:.1f} dB (soxr: {other:.0f} dB)")
        assert abs(peak - (16000 - frequency)) < 2, peak
        assert left > -4 and other < -60, (left, other)
PROGRAM

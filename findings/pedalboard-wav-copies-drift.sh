#!/usr/bin/env bash
# Expected: reading a 16-bit WAV and writing it again as 16 bits is lossless, as with soundfile, scipy or wave.
# Happens: pedalboard reads -32768 as -1.00003 (it divides by 32767), scales by another factor on writing and rounds down:
#   every negative sample is one step lower in each copy. Ten copies differ by ten steps, and a constant offset grows.
# Matters: pipelines that load, change and save in stages damage quiet clips; checksums of "unchanged" audio differ;
#   code that asserts samples within -1 and 1 fails on full-scale clips.
# Source: pedalboard.io.AudioFile on JUCE's WAV format; its documentation gives -1.0 as the lowest value of most files.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 soundfile==0.14.0 pedalboard==0.9.26
venv/bin/python - <<'PROGRAM'
from importlib.metadata import version

import numpy as np
import soundfile as sf
from pedalboard.io import AudioFile

print("pedalboard", version("pedalboard"), "soundfile", version("soundfile"))
original = np.arange(-32768, 32768).astype(np.int16)
sf.write("copy.wav", original, 16000, subtype="PCM_16")
with AudioFile("copy.wav") as reader:
    lowest = float(reader.read(reader.frames)[0].min())
print(f"sample -32768 is read as {lowest:.7f}")
assert lowest < -1

for generation in range(1, 11):
    with AudioFile("copy.wav") as reader:
        samples = reader.read(reader.frames)
    with AudioFile("copy.wav", "w", 16000, 1) as writer:
        writer.write(samples)
    if generation in (1, 2, 10):
        change = sf.read("copy.wav", dtype="int16")[0].astype(int) - original
        print(f"copy {generation}: {np.mean(change != 0):.0%} of the 16-bit values differ,",
              f"change {change.min()} to {change.max()}, mean {change.mean():+.2f}")
        changes = change
        if generation == 1:
            assert change.min() == -1 and change.max() == 0 and np.mean(change != 0) > 0.45
assert changes.min() == -10 and changes.mean() < -4, (changes.min(), changes.mean())

sf.write("plain.wav", original, 16000, subtype="PCM_16")
for _ in range(10):
    sf.write("plain.wav", sf.read("plain.wav")[0], 16000, subtype="PCM_16")
same = np.array_equal(sf.read("plain.wav", dtype="int16")[0], original)
print("ten copies by soundfile are bit-exact:", same)
assert same
PROGRAM

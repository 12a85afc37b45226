#!/usr/bin/env bash
# Expected: the library made for inference without Kaldi gives a clip the same features wherever it stands in a list; or,
#   if its printed default dither of 3e-05 is noticed, features that differ in the third decimal and between any two runs.
# Happens: the dither comes from a generator that starts alike in every process and is never reset. A run can be repeated bit for
#   bit, yet another order of clips moves quiet bands by 1 to 2 in natural log energy.
# Matters: tests of reproducibility pass, while shuffling, sharding, more workers or one clip added change the embeddings of all
#   clips after it, most for soft voices and digital pauses. Set frame_opts.dither = 0.
# Source: kaldi-native-fbank, FrameExtractionOptions.dither; the value does not follow the level of the input.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 kaldi-native-fbank==1.23.0
venv/bin/python - <<'PROGRAM'
import subprocess
import sys
from importlib.metadata import version

import numpy as np

PROGRAM = '''
import sys
import kaldi_native_fbank as knf
import numpy as np
RATE = 16000
time = np.arange(2 * RATE) / RATE
voice = 0.3 * np.sin(2 * np.pi * 180 * time) * (np.sin(2 * np.pi * 2 * time) > 0)
floor = np.round(3 * np.random.default_rng(0).standard_normal(time.size)) / 32768
clips = {"a": voice, "b": voice + floor, "c": 0.03 * (voice + floor)}
for name in sys.argv[2]:
    options = knf.FbankOptions()
    if sys.argv[1] == "off":
        options.frame_opts.dither = 0
    bank = knf.OnlineFbank(options)
    bank.accept_waveform(RATE, clips[name].astype(np.float32).tolist())
    bank.input_finished()
    frames = [bank.get_frame(index) for index in range(bank.num_frames_ready)]
    np.save(f"{sys.argv[3]}-{name}.npy", np.stack(frames))
'''


def extract(dither, order, folder):
    """Extract clips in the given order in a process of their own."""
    subprocess.run([sys.executable, "-c", PROGRAM, dither, order, folder], check=True)
    return {name: np.load(f"{folder}-{name}.npy") for name in order}


print("kaldi-native-fbank", version("kaldi-native-fbank"))
first, again = extract("default", "abc", "first"), extract("default", "abc", "again")
print("same order, two processes: equal", all(np.array_equal(first[n], again[n]) for n in "abc"))
assert all(np.array_equal(first[name], again[name]) for name in "abc")
other = extract("default", "cab", "other")
off, off_other = extract("off", "abc", "off"), extract("off", "cab", "off_other")
for name, words in (("a", "digital pauses"), ("b", "16-bit noise floor of -80 dBFS"),
                    ("c", "the same, 30 dB softer")):
    change = np.abs(first[name] - other[name]).max()
    print(f"clip {name}, {words}: other order of clips changes log energies by up to {change:.2f};",
          "without dither equal:", np.array_equal(off[name], off_other[name]))
    assert change > 0.5, (name, change)
    assert np.array_equal(off[name], off_other[name])
PROGRAM

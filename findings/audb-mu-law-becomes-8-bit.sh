#!/usr/bin/env bash
# Expected: audb.load(..., sampling_rate=16000) of a mu-law corpus stores 16-bit samples, since mu-law decodes to 14 bits.
# Happens: the 8 bits of the code word are taken for the depth, and the resampled copy is 8-bit linear PCM: a tone of -40 dBFS
#   stands 38 dB above the error as published and 11 dB after loading. bit_depth=16 prevents it.
# Matters: telephone corpora (call centres, Switchboard-like). Soft speech is buried in quantisation noise, pauses become
#   zeros, and features look plausible.
# Source: audb.Flavor uses audiofile.bit_depth of the source; audiofile reports 8 for ULAW and writes PCM_U8.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 soundfile==0.14.0 audiofile==1.6.1 audformat==1.4.3 audb==1.15.0
venv/bin/python - <<'PROGRAM'
import os
from importlib.metadata import version

import audb
import audformat
import numpy as np
import soundfile as sf

print("audb", version("audb"), "audiofile", version("audiofile"))
rate = 8000
time = np.arange(2 * rate) / rate
tone = 10 ** (-40 / 20) * np.sin(2 * np.pi * 200 * time)
for folder in ("build", "host/repository", "cache"):
    os.makedirs(folder)
sf.write("build/call.wav", tone, rate, subtype="ULAW")
database = audformat.Database("calls")
database["files"] = audformat.Table(audformat.filewise_index(["call.wav"]))
database["files"]["emotion"] = audformat.Column()
database["files"]["emotion"].set(["neutral"])
database.save("build")
repository = audb.Repository("repository", os.path.abspath("host"), "file-system")
audb.config.REPOSITORIES = [repository]
audb.publish("build", "1.0.0", repository, verbose=False)


def signal_to_error(path):
    """Return subtype and the ratio in dB of the tone to all else in the file."""
    signal, new_rate = sf.read(path)
    signal = signal[new_rate // 4: -new_rate // 4]
    steps = np.arange(signal.size) / new_rate
    basis = np.stack([np.sin(2 * np.pi * 200 * steps), np.cos(2 * np.pi * 200 * steps)], axis=1)
    fitted = basis @ np.linalg.lstsq(basis, signal, rcond=None)[0]
    return sf.info(path).subtype, 20 * np.log10(np.std(fitted) / np.std(signal - fitted))


results = {}
for name, options in (("as published", {}), ("sampling_rate=16000", {"sampling_rate": 16000}),
                      ("and bit_depth=16", {"sampling_rate": 16000, "bit_depth": 16})):
    loaded = audb.load("calls", version="1.0.0", cache_root="cache", verbose=False, **options)
    results[name] = signal_to_error(loaded.files[0])
    print(f"{name:20} {results[name][0]:7} tone of -40 dBFS stands",
          f"{results[name][1]:.1f} dB above the error")
assert [subtype for subtype, _ in results.values()] == ["ULAW", "PCM_U8", "PCM_16"]
published, resampled, sixteen = (ratio for _, ratio in results.values())
assert published > 25 and sixteen > 25 and resampled < published - 15, results
PROGRAM

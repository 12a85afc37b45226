#!/usr/bin/env bash
# Expected: soundfile reads an MP3 to its end, or raises an error.
# Happens: of an MP3 of variable bit rate without a Xing header, libsndfile returns as many samples as the bit rate of the first
#   frames lets expect: 8.5 of 30 s when a soft tone comes before noise, 10.5 when noise comes first, without an error.
# Matters: stream captures, podcasts and joined files have no such header; durations, labels in seconds and the emotion itself are
#   those of the part that was read. FFmpeg (PyAV) reads the whole file.
# Source: libsndfile takes the length from mpg123, which estimates it where no header gives it; measured here.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv --without-pip venv
python3 -m pip --disable-pip-version-check --python venv/bin/python install --quiet \
    numpy==2.4.6 soundfile==0.14.0 av==18.1.0
venv/bin/python - 2>/dev/null <<'PROGRAM'
from importlib.metadata import version

import av
import numpy as np
import soundfile

RATE = 16000
print("soundfile", version("soundfile"), soundfile.__libsndfile_version__, "av", version("av"))


def write(name, signal, header):
    options = {"write_xing": str(int(header)), "id3v2_version": "0"}
    with av.open(name, "w", options=options) as file:
        track = file.add_stream("libmp3lame", rate=RATE, layout="mono")
        track.codec_context.qscale = True  # variable bit rate
        cut = av.AudioResampler("fltp", "mono", RATE, frame_size=576)
        frame = av.AudioFrame.from_ndarray(signal[None].astype(np.float32), "flt", "mono")
        frame.sample_rate = RATE
        for part in (*cut.resample(frame), *cut.resample(None)):
            file.mux(track.encode(part))
        file.mux(track.encode(None))


def seconds_by_ffmpeg(name):
    with av.open(name) as file:
        return sum(frame.samples for frame in file.decode(audio=0)) / RATE


noise = 0.3 * np.random.default_rng(0).standard_normal(10 * RATE)
tone = 0.05 * np.sin(2 * np.pi * 220 * np.arange(20 * RATE) / RATE)
read = {}
for order, signal in (("tone first", np.r_[tone, noise]), ("noise first", np.r_[noise, tone])):
    for header in (True, False):
        write("clip.mp3", signal, header)
        samples, _ = soundfile.read("clip.mp3")
        read[order, header] = len(samples) / RATE
        print(f"{order}, header {header}: written 30.0 s, soundfile {read[order, header]:.1f} s,",
              f"FFmpeg {seconds_by_ffmpeg('clip.mp3'):.1f} s")
        assert abs(seconds_by_ffmpeg("clip.mp3") - 30) < 0.2
assert all(abs(seconds - 30) < 0.2 for (_, header), seconds in read.items() if header)
assert all(seconds < 12 for (_, header), seconds in read.items() if not header), read
PROGRAM

"The reference layout against recorded pictures of real clips, and what must hold for any clip."

import json

import numpy as np
import pytest
from PIL import Image

from speaker_vgg_cct.data.audio import load_audio
from speaker_vgg_cct.features.spectrogram import (
    FLOOR_DB,
    PictureParams,
    area_weights,
    clip_picture,
    fit_seconds,
    log_mel,
    picture,
    reference_levels,
    reference_rows,
    trim_silence,
)

# clip: (corpus, samples, after trim, frames, mean dB hamm, mean dB hann)
CLIPS = {
    '12a02Ac': ('EMODB', 19608, 19608, 123, -48.949, -48.784),
    '08b03Tc': ('EMODB', 143652, 143652, 898, -60.278, -60.728),
    'neu-f3-d2': ('EMOVO', 20651, 20651, 130, -48.850, -48.587),
    'tri-m1-n5': ('EMOVO', 223915, 223915, 1400, -51.012, -50.786),
    '03-01-05-01-02-01-19': ('RAVDESS', 52853, 49664, 311, -67.948, -68.005),
    'IC0_happiness_3': ('NEMO', 14816, 14816, 93, -52.034, -51.977),
}
WINDOWS = ('hamm', 'hann')


def samples(shared, name):
    return load_audio(shared / 'corpora' / CLIPS[name][0] / 'audio' / f'{name}.flac')


@pytest.mark.parametrize('name', CLIPS)
def test_recorded_sizes(shared, name):
    _, n, trimmed, frames, *_ = CLIPS[name]
    y = samples(shared, name)
    t = trim_silence(y)
    assert (len(y), len(t), log_mel(t).shape[1]) == (n, trimmed, frames)


@pytest.mark.parametrize('window', WINDOWS)
@pytest.mark.parametrize('name', CLIPS)
def test_recorded_decibels(shared, name, window):
    folder, db = (
        shared / 'golden' / 'spectrograms',
        log_mel(trim_silence(samples(shared, name)), window),
    )
    assert db.mean() == pytest.approx(CLIPS[name][4 + WINDOWS.index(window)], abs=6e-4)
    half = np.load(folder / f'{name}_{window}.npz')['db']
    assert (
        half.dtype == np.float16 and np.abs(db - half.astype(np.float32)).max() < 0.032
    )  # half a step of float16 at -80 and a little
    full = folder / f'{name}_{window}_float32.npz'
    if full.is_file():
        np.testing.assert_allclose(db, np.load(full)['db'], atol=1e-4)


@pytest.mark.parametrize('cmap', ('magma', 'jet'))
@pytest.mark.parametrize('window', WINDOWS)
@pytest.mark.parametrize('name', CLIPS)
def test_recorded_pictures_exactly(shared, name, window, cmap):
    file = (
        shared / 'golden' / 'spectrograms' / f'{name}_{window}{"_jet" if cmap == "jet" else ""}.png'
    )
    img = clip_picture(samples(shared, name), PictureParams(window, 'reference', cmap, jpeg=True))
    want = np.asarray(Image.open(file).convert('RGB'))
    assert img.shape == want.shape and (img != want).sum() == 0


def test_recorded_rows(shared):
    want = json.loads((shared / 'golden' / 'picture_mapping.json').read_text())
    assert reference_rows(288).tolist() == want['mel_bin_of_pixel_row_top_to_bottom']
    for T in want['checked_frame_counts']:
        frames = np.tile(np.arange(T, dtype=np.float64), (128, 1))
        shown = reference_levels(frames, 288, 288)[0]  # levels of a ramp over the frames
        assert (
            shown
            == np.minimum(np.floor(np.floor((np.arange(288) + 0.5) * T / 288) / (T - 1) * 256), 255)
        ).all()


@pytest.mark.parametrize('cmap', ('magma', 'jet', None))
@pytest.mark.parametrize('layout', ('mel', 'reference'))
def test_any_length_gives_a_picture(layout, cmap):
    rng = np.random.default_rng(0)
    for _ in range(40):
        T, *size = map(int, rng.integers(1, (1500, 300, 300)))
        seconds = rng.choice([None, rng.uniform(0.01, 10)])
        img = picture(rng.uniform(-80, 0, (128, T)).astype(np.float32), layout, cmap, size, seconds)
        assert img.dtype == np.uint8 and img.shape == (*size, 3)[: 3 if cmap else 2], (
            T,
            size,
            seconds,
        )


def test_averaging_loses_nothing():
    rng = np.random.default_rng(0)
    for m, n in [(1, 1), (1, 7), (7, 1), *rng.integers(1, (1500, 400), (200, 2)).tolist()]:
        x = rng.uniform(-80, 0, m)
        out = area_weights(m, n) @ x
        assert (
            len(out) == n
            and abs(out.mean() - x.mean()) < 1e-4
            and x.min() - 1e-4 <= out.min()
            and out.max() <= x.max() + 1e-4
        ), (m, n)


@pytest.mark.parametrize('T', (1, 2, 9, 10, 11, 50))
def test_fixed_duration(T):
    db = -1 - np.arange(T, dtype=float)[None]
    for n in (1, 2, 9, 10, 11, 100):
        out = fit_seconds(db, n / 100)[0]
        kept = np.flatnonzero(out != FLOOR_DB)
        assert len(out) == n and len(kept) == min(T, n)
        assert n - 1 - kept[-1] - kept[0] in (0, 1)  # in the middle
        assert (np.diff(out[kept]) == -1).all() and abs(
            (-1 - out[kept]).mean() - (T - 1) / 2
        ) <= 0.5  # and of the middle

"The reference variant against the figures measured on the reference implementation, and what the sound variant promises."

import numpy as np
import pytest

from speaker_vgg_cct.config import AUGMENTATION_GROUPS, AUGMENTATIONS, parse_augmentations
from speaker_vgg_cct.core import ConfigError, digest, make_rng
from speaker_vgg_cct.data.audio import load_audio
from speaker_vgg_cct.features.augment import (
    VARIANTS,
    augment_audio,
    augmented_log_mel,
    mask_db,
    mask_region,
)
from speaker_vgg_cct.features.spectrogram import log_mel, trim_silence

N = 41443  # samples of the clip that was measured; its region of 60 % is 8288 … 33154
MIDDLE = (8288, 33154)


def rms(y):
    return np.sqrt(np.mean(np.square(y, dtype=np.float64)))


@pytest.fixture(scope='module')
def y():
    "Speech-like: a harmonic tone with syllables, RMS and peak as in the measured clip."
    t = np.arange(N) / 16000
    y = sum(np.sin(2 * np.pi * k * 150 * t) / k for k in range(1, 20)) * (
        0.3 + np.sin(2 * np.pi * 2 * t) ** 2
    ) * (0.3 + np.sin(2 * np.pi * 0.7 * t) ** 2) + 0.01 * np.random.default_rng(0).standard_normal(
        N
    )
    return (y * 0.1632 / rms(y)).astype(np.float32)


def draws(y, kind, n, variant='reference'):
    return [augment_audio(y, kind, make_rng(0, kind, i), variant) for i in range(n)]


def changed(y, z):
    i = np.flatnonzero(z != y)
    return i[0], i[-1] + 1


def test_reference_loud(y):
    a, b = MIDDLE
    factors = []
    for z in draws(y, 'loud', 400):
        assert len(z) == N and (z[:a] == y[:a]).all() and (z[b:] == y[b:]).all()
        f = rms(z[a:b]) / rms(y[a:b])
        factors.append(f)
        np.testing.assert_allclose(
            z[a:b], y[a:b] * f, rtol=1e-4, atol=1e-6
        )  # one factor, no clipping
    assert (
        min(factors) > 0.5
        and max(factors) < 2
        and np.mean(factors) == pytest.approx(1.25, abs=0.07)
    )


def test_reference_noise(y):
    a, b = MIDDLE
    std = []
    for z in draws(y, 'noise', 30):
        noise = z - y
        assert len(z) == N and changed(y, z)[0] >= a and changed(y, z)[1] <= b
        std.append(noise[a:b].std())
        np.testing.assert_allclose(
            noise[a + 1 : b], noise[a + 1 : b][::-1], atol=1e-6
        )  # a mirror image
    assert (
        np.mean(std) == pytest.approx(1 / np.sqrt(b - a), rel=0.02)
        and f'{np.mean(std):.4f}' == '0.0063'
    )
    louder = augment_audio(y * 2, 'noise', make_rng(0, 'noise', 0), 'reference') - y * 2
    assert louder.std() == pytest.approx(
        (augment_audio(y, 'noise', make_rng(0, 'noise', 0), 'reference') - y).std(), rel=1e-3
    )  # whatever the level


def test_reference_speed(y):
    ratios = np.array([len(z) / N for z in draws(y, 'speed', 150)])
    assert 0.7 <= ratios.min() < 0.75 and 1.45 < ratios.max() <= 1.6
    assert ratios.mean() == pytest.approx(
        0.4 + 0.6 * np.log(4) / 1.5, abs=0.05
    )  # the mean of 0.4 + 0.6/factor
    for z in draws(y, 'speed', 5):
        assert (z[: MIDDLE[0]] == y[: MIDDLE[0]]).all() and (
            z[-(N - MIDDLE[1]) :] == y[MIDDLE[1] :]
        ).all()


def test_reference_pitch(y):
    a, b = MIDDLE
    tone = np.sin(2 * np.pi * 400 * np.arange(N) / 16000).astype(np.float32)
    steps = []
    for z in draws(tone, 'pitch', 40):
        assert len(z) == N and (z[:a] == tone[:a]).all() and (z[b:] == tone[b:]).all()
        f = (
            np.abs(np.fft.rfft(z[a + 2000 : b - 2000] * np.hanning(b - a - 4000), 1 << 18)).argmax()
            * 16000
            / (1 << 18)
        )
        steps.append(12 * np.log2(f / 400))
    assert 1.95 < min(steps) < 2.25 and 2.75 < max(steps) < 3.05  # up, never down


def test_reference_shift(y):
    h = 20721
    left = 0
    for z in draws(y, 'shift', 200):
        assert len(z) == N
        if (z[:h] == 0).all():
            assert (z[h:] == y[:-h]).all()
        else:
            left += 1
            assert (z[-h:] == 0).all() and (z[:-h] == y[h:]).all()
    assert 75 < left < 125


def test_reference_norm(y):
    starts = []
    for z in draws(y, 'norm', 300):
        i, j = changed(y, z)
        n = round(0.21 * N)
        assert (
            len(z) == N and j - i <= n and np.abs(z[i:j]).max() == 1
        )  # the region's own peak becomes 1
        starts.append(i / N)
        assert i / N >= 0.149 and j / N <= 0.8501
    assert (
        min(starts) < 0.17
        and max(starts) > 0.62
        and np.mean(starts) == pytest.approx(0.395, abs=0.03)
    )


@pytest.mark.parametrize('frames', (112, 300))
def test_reference_mask(frames):
    regions = [mask_region('mask', (128, frames), make_rng(0, i), 'reference') for i in range(4000)]
    assert all(bands == slice(None) for bands, _ in regions)
    start, width = np.array([(t.start, t.stop - t.start) for _, t in regions]).T / frames
    assert (
        start.min() == pytest.approx(0.25, abs=0.01)
        and start.max() == pytest.approx(0.70, abs=0.015)
        and np.mean(start) == pytest.approx(0.475, abs=0.015)
    )
    assert width.min() == 1 / frames and 0.49 < width.max() < 0.53 and (start + width).max() <= 1
    assert width.mean() == pytest.approx(0.235, abs=0.012) and (
        width > 0.25
    ).mean() == pytest.approx(0.47, abs=0.03)


def test_reference_maskfreq():
    regions = [
        mask_region('maskfreq', (128, 112), make_rng(0, i), 'reference') for i in range(6000)
    ]
    assert all(t == slice(None) for _, t in regions)
    start, width = np.array([(b.start, b.stop - b.start) for b, _ in regions]).T
    assert (
        set(width) == set(range(30))
        and (width == 0).mean() == pytest.approx(1 / 30, abs=0.008)
        and width.mean() == pytest.approx(14.5, abs=0.4)
    )
    assert start.min() == 0 and (start + width).max() == 127


@pytest.mark.parametrize('kind', AUGMENTATION_GROUPS['freq_aug'])
def test_reference_masks_have_their_own_spectrogram(y, kind):
    a = augmented_log_mel(y, kind, variant='reference')
    assert a.shape == (128, 112)  # 22,050 Hz, hop 512, frames centred
    assert (
        a == augmented_log_mel(y, kind, variant='reference', window='hann')
    ).all()  # the window does nothing to them
    assert a.max() == 0 and a.min() == -80


# ---- the sound variant


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('kind', AUGMENTATIONS)
def test_depends_on_its_names_alone(y, kind, variant):
    def make(*names):
        return augmented_log_mel(y, kind, *names, variant=variant)

    first = make(0, 'A/x', 0)
    state = np.random.get_state()[1].copy()
    before = y.copy()
    make(5, 'A/z', 2)
    assert digest(make(0, 'A/x', 0)) == digest(first)
    copies = {
        digest(make(*names))
        for names in ((0, 'A/x', 0), (1, 'A/x', 0), (0, 'A/y', 0), (0, 'A/x', 1))
    }
    assert len(copies) == 4 or (kind, variant) == (
        'shift',
        'reference',
    )  # that one is left or right
    assert (np.random.get_state()[1] == state).all() and (
        y == before
    ).all()  # no global state, and `y` untouched
    assert (
        first.dtype == np.float32
        and first.shape[0] == 128
        and -80 <= first.min() < first.max() <= 0
    )


@pytest.mark.parametrize('kind', AUGMENTATION_GROUPS['time_aug'])
def test_sound_keeps_the_speech(y, kind):
    y = y * 0.2
    db = log_mel(y)
    for z in draws(y, kind, 12, 'sound'):
        assert z.dtype == np.float32 and np.isfinite(z).all() and 0.79 <= len(z) / N <= 1.26
        energy = np.square(z, dtype=float).sum() / np.square(y, dtype=float).sum()
        assert 0.25 < energy < 4
        if kind == 'shift':
            assert energy == pytest.approx(1, abs=1e-6) and 0.049 < len(z) / N - 1 < 0.2001
            assert (z[:N] == y).all() or (z[-N:] == y).all()
        else:
            assert (
                len(z) != N or (np.abs(log_mel(z) - db) > 1).mean() > 0.01
            )  # never the clip itself


@pytest.mark.parametrize('kind', AUGMENTATION_GROUPS['time_aug'])
def test_sound_never_clips(y, kind):
    assert all(np.abs(z).max() <= 1 for z in draws(y / np.abs(y).max(), kind, 12, 'sound'))


def test_sound_does_not_depend_on_the_recording_level(y):
    "But for rounding, a clip recorded 20 dB softer gets the same picture."
    for kind in AUGMENTATIONS:
        a, b = (augmented_log_mel(g * y, kind, clip='A/x') for g in np.float32([1, 0.1]))
        assert a.shape == b.shape and np.median(np.abs(a - b)) < 0.01, kind


def test_sound_directions(y):
    lengths = np.array([len(z) / N for z in draws(y, 'speed', 60, 'sound')])
    assert (
        0.79 < lengths.min() < 0.85
        and 1.2 < lengths.max() < 1.26
        and (np.abs(np.log(lengths)) > 0.045).all()
        and 0.3 < (lengths < 1).mean() < 0.7
    )
    soft = y * np.float32(0.1)
    levels = [20 * np.log10(rms(soft) / rms(z - soft)) for z in draws(soft, 'noise', 60, 'sound')]
    assert 9.8 < min(levels) < 13 and 27 < max(levels) < 30.2


def test_sound_masks():
    time = [mask_region('mask', (128, 300), make_rng(0, i))[1] for i in range(3000)]
    width = np.array([t.stop - t.start for t in time]) / 300
    assert (
        width.min() == 1 / 300
        and width.max() == 0.2
        and width.mean() == pytest.approx(0.1, abs=0.005)
    )
    assert min(t.start for t in time) == 0 and max(t.stop for t in time) == 300
    bands = [mask_region('maskfreq', (128, 300), make_rng(0, i))[0] for i in range(3000)]
    assert (
        {b.stop - b.start for b in bands} == set(range(1, 30))
        and min(b.start for b in bands) == 0
        and max(b.stop for b in bands) == 128
    )
    db = np.zeros((128, 300), np.float32)
    out = mask_db(db, 'mask', make_rng(0, 0))
    assert (
        (out[:, time[0]] == -80).all()
        and (out == -80).sum() == 128 * (time[0].stop - time[0].start)
        and (db == 0).all()
    )


@pytest.mark.parametrize('kind', AUGMENTATIONS)
@pytest.mark.parametrize('variant', VARIANTS)
def test_a_very_short_clip(y, kind, variant):
    assert np.isfinite(
        augmented_log_mel(y[5000 : 5000 + 4800], kind, variant=variant)
    ).all()  # 0.3 s


@pytest.mark.parametrize('kind', AUGMENTATIONS)
def test_on_real_speech(shared, kind):
    y = trim_silence(load_audio(shared / 'corpora' / 'EMODB' / 'audio' / '12a02Ac.flac'))
    for variant in VARIANTS:
        assert np.isfinite(augmented_log_mel(y, kind, 1, 'EMODB/12a02Ac', variant=variant)).all()


def test_names():
    assert (
        parse_augmentations('time_freq_aug')
        == AUGMENTATIONS
        == AUGMENTATION_GROUPS['time_aug'] + AUGMENTATION_GROUPS['freq_aug']
    )
    for k in AUGMENTATIONS:
        assert parse_augmentations(k) == parse_augmentations([k]) == (k,)
    with pytest.raises(ConfigError, match='shift'):
        parse_augmentations('shfit')
    with pytest.raises(ConfigError):
        parse_augmentations('')

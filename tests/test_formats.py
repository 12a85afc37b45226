"Real files of every container and encoding that can be written on the spot: what is read has the length, shape and level of what was written."

import io
import subprocess
import sys
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile as sf
import soxr

from speaker_vgg_cct.core import AudioError
from speaker_vgg_cct.data.audio import (
    AUDIO_ENDINGS,
    SAMPLE_RATE,
    AudioNote,
    audio_blocks,
    decode,
    load_audio,
)
from speaker_vgg_cct.data.synthetic import clip

VOICE = np.resize(clip('sad', 1), 40960)  # a whole number of frames of each encoder
BY_FFMPEG = {  # name: (container, encoder, Hz); a rate that the encoder takes
    'aac.m4a': ('ipod', 'aac', 16000),
    'alac.m4a': ('ipod', 'alac', 16000),
    'adts.aac': ('adts', 'aac', 16000),
    'opus.webm': ('webm', 'libopus', 48000),
    'opus.mka': ('matroska', 'libopus', 48000),
    'pcm.mov': ('mov', 'pcm_s16le', 16000),
    'a.wma': ('asf', 'wmav2', 16000),
    'a.amr': ('amr', 'libopencore_amrnb', 8000),
    'a.3gp': ('3gp', 'libopencore_amrnb', 8000),
    'ac3.ac3': ('ac3', 'ac3', 48000),
    'a.mp2': ('mp2', 'mp2', 16000),
    'flac.oga': ('ogg', 'flac', 16000),
    'alac.caf': ('caf', 'alac', 16000),
    'a.wv': ('wv', 'wavpack', 16000),
    'a.tta': ('tta', 'tta', 16000),
    'mp3.avi': ('avi', 'mp3', 16000),
    'aac.ts.mpg': ('mpegts', 'aac', 16000),
    'adpcm.wav': ('wav', 'adpcm_ima_wav', 16000),
    'a.flv': ('flv', 'mp3', 44100),
}
BY_SNDFILE = {  # name: (format, subtype, Hz)
    'pcm16.wav': ('WAV', 'PCM_16', 16000),
    'pcm24.wav': ('WAV', 'PCM_24', 48000),
    'float.wav': ('WAV', 'FLOAT', 16000),
    'double.w64': ('W64', 'DOUBLE', 16000),
    'ulaw.wav': ('WAV', 'ULAW', 8000),
    'alaw.wav': ('WAV', 'ALAW', 8000),
    'gsm.wav': ('WAV', 'GSM610', 8000),
    'ima.wav': ('WAV', 'IMA_ADPCM', 16000),
    'a.aiff': ('AIFF', 'PCM_16', 16000),
    'a.caf': ('CAF', 'PCM_24', 16000),
    'a.au': ('AU', 'PCM_16', 16000),
    'a.flac': ('FLAC', 'PCM_24', 16000),
    'a.mp3': ('MP3', 'MPEG_LAYER_III', 16000),
    'a.ogg': ('OGG', 'VORBIS', 16000),
    'a.opus': ('OGG', 'OPUS', 48000),
    'a.nist': ('NIST', 'PCM_16', 16000),
    'a.voc': ('VOC', 'PCM_16', 16000),
}
AMR = 'a.amr', 'a.3gp'  # models of the voice, which do not keep the waveform
COARSE = (
    *AMR,
    'gsm.wav',
    'adpcm.wav',
    'ima.wav',
    'ulaw.wav',
    'alaw.wav',
    'a.opus',
    'opus.webm',
    'opus.mka',
)  # telephone codecs, 8 kHz, or coders that do not keep the waveform


def picture_frames(track, n=20):
    for i in range(n):
        yield from track.encode(
            av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * i % 256, np.uint8))
        )
    yield from track.encode(None)


def encode(
    path,
    container,
    codec,
    rate,
    channels=(VOICE,),
    picture=False,
    late=0.0,
    pause=None,
    drop_first=False,
):
    "Writes sound by FFmpeg; `late`: seconds after the picture; `pause`: (at, seconds) in the clock alone."
    layout = {1: 'mono', 2: 'stereo', 6: '5.1'}[len(channels)]
    y = np.stack(
        [soxr.resample(c, SAMPLE_RATE, rate) if rate != SAMPLE_RATE else c for c in channels]
    ).astype(np.float32)
    with av.open(str(path), 'w', format=container) as file:
        if picture:
            video = file.add_stream('mpeg4', rate=10)
            video.width = video.height = 64
            video.pix_fmt = 'yuv420p'
        track = file.add_stream(codec, rate=rate, layout=layout)
        if codec in ('wmav2', 'mp3', 'mp2'):
            track.bit_rate = 96000
        if codec in ('tta', 'wavpack'):
            track.codec_context.format = {'tta': 's16', 'wavpack': 's16p'}[
                codec
            ]  # not their first choice of 8 bits
        track.codec_context.open()
        if picture:
            for packet in picture_frames(video):
                file.mux(packet)
        n = track.codec_context.frame_size or 1024
        turn = av.AudioResampler(track.codec_context.format.name, layout, rate)
        for i in range(0, y.shape[1], n):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(y[:, i : i + n]), 'fltp', layout
            )
            frame.sample_rate = rate
            at = (
                i
                + round(late * rate)
                + (round(pause[1] * rate) if pause and i >= pause[0] * rate else 0)
            )
            for out in turn.resample(frame):
                out.pts = at
                out.time_base = Fraction(1, rate)
                file.mux(track.encode(out))
        file.mux(track.encode(None))
    return path


def write(name, folder):
    if name in BY_FFMPEG:
        return encode(folder / name, *BY_FFMPEG[name])
    container, subtype, rate = BY_SNDFILE[name]
    sf.write(
        folder / name,
        soxr.resample(VOICE, SAMPLE_RATE, rate),
        rate,
        format=container,
        subtype=subtype,
    )
    return folder / name


def likeness(y, x):
    "Correlation at the best lag up to 0.1 s, and the ratio of levels there."
    x = np.pad(x, 1600)
    lag = np.correlate(x, y[4000:20000], 'valid').argmax()
    a, b = y[4000:20000], x[lag : lag + 16000]
    return np.corrcoef(a, b)[0, 1], np.std(a) / np.std(b), lag - 4000 - 1600


@pytest.mark.parametrize('name', [*BY_FFMPEG, *BY_SNDFILE])
def test_is_read_as_it_was_written(name, tmp_path):
    file = write(name, tmp_path)
    y = load_audio(file)
    correlation, level, lag = likeness(y, VOICE)
    assert y.dtype == np.float32 and file.suffix in AUDIO_ENDINGS
    assert len(VOICE) / SAMPLE_RATE == pytest.approx(len(y) / SAMPLE_RATE, abs=0.13), (
        'some frames of padding'
    )
    assert correlation > (0.6 if name in AMR else 0.8 if name in COARSE else 0.99), correlation
    assert level == pytest.approx(
        1, abs=0.15 if name in COARSE else 0.06 if 'mp3' in name or name == 'a.flv' else 0.03
    )  # LAME encodes at .95 of the level
    blocks = np.concatenate(list(audio_blocks(file, 0.37)))
    assert len(blocks) == len(y) and np.abs(blocks - y).max() < 2e-3
    assert np.array_equal(load_audio(io.BytesIO(file.read_bytes())), y), 'the name decides nothing'
    assert load_audio(file, up_to=1) is None


def test_the_first_track_of_a_video(tmp_path):
    y = load_audio(encode(tmp_path / 'a.mp4', 'mp4', 'aac', 16000, picture=True))
    assert likeness(y, VOICE)[0] > 0.99
    with (
        av.open(str(encode(tmp_path / 'two.mkv', 'matroska', 'flac', 16000))) as file,
        av.open(str(tmp_path / 'both.mkv'), 'w') as both,
    ):
        tracks = [both.add_stream('flac', rate=16000, layout='mono') for _ in range(2)]
        for frame in file.decode(audio=0):
            other = av.AudioFrame.from_ndarray(
                np.zeros_like(frame.to_ndarray()), frame.format.name, 'mono'
            )
            other.sample_rate, other.pts, other.time_base = 16000, frame.pts, frame.time_base
            for track, f in zip(tracks, (frame, other)):
                both.mux(track.encode(f))
        for track in tracks:
            both.mux(track.encode(None))
    assert likeness(load_audio(tmp_path / 'both.mkv'), VOICE)[0] > 0.99


@pytest.mark.parametrize('container, codec', [('matroska', 'flac'), ('mp4', 'aac')])
def test_pauses_and_late_starts_of_the_clock_are_silence(tmp_path, container, codec):
    plain = load_audio(encode(tmp_path / 'plain', container, codec, 16000, picture=True))
    paused = load_audio(
        encode(tmp_path / 'paused', container, codec, 16000, picture=True, pause=(1, 0.5))
    )
    assert len(paused) - len(plain) == pytest.approx(8000, abs=100)
    assert likeness(paused[-len(plain) + 16000 :], plain[16000:])[0] > 0.99
    quiet = paused[17000:23000]
    assert np.abs(quiet).max() < 0.02
    late = load_audio(encode(tmp_path / 'late', container, codec, 16000, picture=True, late=0.5))
    assert (
        len(late) - len(plain) == pytest.approx(8000, abs=1100) and np.abs(late[:6500]).max() < 0.02
    )
    alone = load_audio(encode(tmp_path / 'alone', container, codec, 16000, late=0.5))
    assert len(alone) - len(plain) == pytest.approx(0, abs=1100), (
        'a track alone begins with its first sample'
    )


def test_blocks_of_a_long_file_are_bounded(tmp_path):
    encode(tmp_path / 'long.m4a', 'ipod', 'aac', 16000, [np.tile(VOICE, 20)])
    sizes = [len(b) for b in audio_blocks(tmp_path / 'long.m4a', 2)]
    assert max(sizes) == 32000 and sum(sizes) == pytest.approx(20 * len(VOICE), abs=3000)


def test_channels(tmp_path):
    other = np.resize(clip('anger', 0), len(VOICE)) * 0.5
    mono = load_audio(encode(tmp_path / 'm.mka', 'matroska', 'flac', 16000))
    for name, channels, same in (
        ('copy', (VOICE, VOICE), VOICE),
        ('anti', (VOICE, -VOICE), VOICE),
        ('nearly', (VOICE * 0.7, -VOICE), -VOICE),
        ('silent', (VOICE, VOICE * 0), VOICE / 2),
        ('two', (VOICE, other), (VOICE + other) / 2),
    ):
        long = [np.tile(c, 8) for c in channels]
        for ending, codec in (('mka', 'flac'), ('wav', None)):
            file = tmp_path / f'{name}.{ending}'
            if codec:
                encode(file, 'matroska', codec, 16000, long)
            else:
                sf.write(file, np.stack(long, 1), 16000)
            y = load_audio(file)
            assert np.abs(y[: len(VOICE)] - same).max() < 1e-4, (name, ending)
            assert np.array_equal(np.concatenate(list(audio_blocks(file, 3))), y), (
                'blocks decide as the whole'
            )
            if name == 'copy':
                assert np.array_equal(y[: len(VOICE)], mono)


def test_stereo_of_a_lossy_container_is_as_loud_as_mono(tmp_path):
    mono, stereo = (
        load_audio(encode(tmp_path / f'{len(c)}.m4a', 'ipod', 'aac', 16000, c))
        for c in ([VOICE], [VOICE, VOICE])
    )
    assert np.std(stereo) / np.std(mono) == pytest.approx(1, abs=0.02)


def test_a_header_of_0_bytes_is_read_to_the_end(tmp_path):
    for subtype in ('PCM_16', 'PCM_24', 'FLOAT', 'ULAW'):
        sf.write(tmp_path / 'a.wav', VOICE, 16000, subtype=subtype)
        data = bytearray((tmp_path / 'a.wav').read_bytes())
        at = data.index(b'data') + 4
        whole = load_audio(tmp_path / 'a.wav')
        data[4:8] = data[at : at + 4] = bytes(4)
        (tmp_path / 'zero.wav').write_bytes(data)
        with pytest.warns(AudioNote, match='zero.wav: its header says 0 bytes'):
            y = load_audio(tmp_path / 'zero.wav')
        assert np.abs(y[: len(whole)] - whole).max() < 1e-4 and abs(len(y) - len(whole)) < 99
        assert 'says 0 bytes' in decode(tmp_path / 'zero.wav').note
    sf.write(tmp_path / 'none.wav', np.zeros(0), 16000)
    with warnings.catch_warnings(), pytest.raises(AudioError, match='holds no samples'):
        warnings.simplefilter('error')
        load_audio(tmp_path / 'none.wav')


def mute(path):
    with av.open(str(path), 'w') as file:
        video = file.add_stream('mpeg4', rate=10)
        video.width = video.height = 64
        video.pix_fmt = 'yuv420p'
        for packet in picture_frames(video):
            file.mux(packet)


def test_each_kind_of_unreadable_file_has_its_sentence(tmp_path):
    m4a = encode(tmp_path / 'a.m4a', 'ipod', 'aac', 16000).read_bytes()
    mkv = encode(tmp_path / 'a.mkv', 'matroska', 'flac', 16000).read_bytes()
    moov = m4a.index(b'moov') - 4
    mdat = m4a.index(b'mdat') - 4
    fast = (
        m4a[:mdat] + m4a[moov:] + m4a[mdat:moov]
    )  # its table first, as for the web; the offsets in it are wrong then, so it is damaged
    bad = {
        'text.wav': (b'this is no sound', 'it holds text'),
        'page.m4a': (b'<!DOCTYPE html><html>404</html>', 'it holds text'),
        'list.mp3': (b'#EXTM3U\nhttp://example.org/a.mp3\n', 'it holds text'),
        'empty.wav': (b'', 'is empty'),
        'zeros.mp3': (bytes(4096), 'zeros only'),
        'archive.m4a': (b'PK\x03\x04' + bytes(50), 'ZIP'),
        'locked.m4a': (m4a.replace(b'mp4a', b'drms', 1), 'is encrypted'),
        'ssl.wav': (b'Salted__' + bytes(range(200)), 'encrypted'),
        'cut.m4a': (m4a[: moov - 500], 'cut short'),
        'cut.mkv': (mkv[: len(mkv) // 2], 'cut short'),
        'noise.mp3': (np.random.default_rng(0).bytes(5000), 'decoded'),
        'swapped.m4a': (fast[:-3000], 'cut short|decoded'),
    }
    for name, (data, why) in bad.items():
        (tmp_path / name).write_bytes(data)
        for read in (load_audio, lambda f: list(audio_blocks(f))):
            with pytest.raises(AudioError) as e:
                read(tmp_path / name)
            assert name in str(e.value) and any(w in str(e.value) for w in why.split('|')), e.value
            assert str(tmp_path) not in e.value.said, 'the sentence names no folder'
        with pytest.raises(AudioError, match=why):
            load_audio(io.BytesIO(data))
    mute(tmp_path / 'mute.mp4')
    with pytest.raises(AudioError, match='mute.mp4: holds no sound track'):
        load_audio(tmp_path / 'mute.mp4')


def test_a_playlist_opens_nothing(tmp_path):
    "FFmpeg would follow lists to other files."
    sf.write(tmp_path / 'secret.wav', VOICE, 16000)
    for name, text in (
        (
            'a.m3u8',
            f'#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n',
        ),
        ('b.wav', "ffconcat version 1.0\nfile 'secret.wav'\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(AudioError, match='it holds text'):
            load_audio(tmp_path / name)


@pytest.mark.parametrize(
    'error',
    [
        ValueError('odd'),
        RuntimeError('odd'),
        KeyError('odd'),
        EOFError(),
        MemoryError(),
        OverflowError('odd'),
        AssertionError(),
    ],
)
def test_any_exception_of_a_decoder_names_the_file(tmp_path, monkeypatch, error):
    sf.write(tmp_path / 'a.wav', VOICE, 16000)

    def fail(*args, **more):
        raise error

    monkeypatch.setattr(sf.SoundFile, 'read', fail)
    for read in (load_audio, lambda f: list(audio_blocks(f))):
        with pytest.raises(AudioError, match='a.wav: '):
            read(tmp_path / 'a.wav')


def test_ffmpeg_is_loaded_when_it_is_needed(tmp_path):
    sf.write(tmp_path / 'a.wav', VOICE, 16000)
    code = "import sys; from speaker_vgg_cct.data.audio import load_audio; load_audio(sys.argv[1]); print('av' in sys.modules)"
    done = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path / 'a.wav')], capture_output=True, text=True
    )
    assert done.stdout.strip() == 'False', done.stderr


CUT_BY_SNDFILE = {  # name: (format, subtype)
    'a.au': ('AU', 'PCM_16'),
    'a.caf': ('CAF', 'PCM_16'),
    'a.w64': ('W64', 'PCM_16'),
    'rf64.wav': ('RF64', 'PCM_16'),
    'a.voc': ('VOC', 'PCM_16'),
    'a.nist': ('NIST', 'PCM_16'),
    'a.mp3': ('MP3', 'MPEG_LAYER_III'),
    'a.ogg': ('OGG', 'VORBIS'),
    'a.opus': ('OGG', 'OPUS'),
}


@pytest.mark.parametrize('name', [*CUT_BY_SNDFILE, 'a.avi'])
def test_a_missing_end_is_refused_where_the_file_says_its_length(tmp_path, name):
    whole = tmp_path / name
    if name in CUT_BY_SNDFILE:
        form, subtype = CUT_BY_SNDFILE[name]
        sf.write(whole, np.tile(VOICE, 4), 16000, format=form, subtype=subtype)
    else:
        encode(whole, 'avi', 'pcm_s16le', 16000, channels=(np.tile(VOICE, 4),))
    with warnings.catch_warnings():
        warnings.simplefilter('error', AudioNote)
        assert len(load_audio(whole)) == pytest.approx(4 * len(VOICE), abs=3000)
    data = whole.read_bytes()
    data = data[: len(data) * 6 // 10]
    whole.write_bytes(data)
    for read in (load_audio, lambda f: list(audio_blocks(f, 1))):
        with pytest.raises(AudioError, match='is cut short'):
            read(whole)
        with pytest.raises(AudioError, match='is cut short'):
            read(io.BytesIO(data))


@pytest.mark.parametrize('subtype', ['VORBIS', 'OPUS'])
def test_an_ogg_without_its_last_page_is_read_with_a_note(tmp_path, subtype):
    file = tmp_path / 'a.ogg'
    sf.write(file, np.tile(VOICE, 4), 16000, format='OGG', subtype=subtype)
    data = file.read_bytes()
    file.write_bytes(data[: data.rindex(b'OggS')])
    with pytest.warns(AudioNote, match='a.ogg: its end is not marked'):
        y = load_audio(file)
    assert len(VOICE) < len(y) < 4 * len(VOICE)


def mp3_of_variable_bit_rate(path, y, header):
    with av.open(
        str(path), 'w', options={'write_xing': str(int(header)), 'id3v2_version': '0'}
    ) as file:
        track = file.add_stream('libmp3lame', rate=16000, layout='mono')
        track.codec_context.qscale = True  # variable bit rate
        n = 576
        turn = av.AudioResampler('fltp', 'mono', 16000, frame_size=n)
        frame = av.AudioFrame.from_ndarray(y[None].astype(np.float32), 'flt', 'mono')
        frame.sample_rate = 16000
        for out in (*turn.resample(frame), *turn.resample(None)):
            file.mux(track.encode(out))
        file.mux(track.encode(None))
    return path


@pytest.mark.parametrize('header', [True, False])
@pytest.mark.parametrize('silence_at', [0, 1])
def test_an_mp3_of_variable_bit_rate_is_read_to_its_end(tmp_path, header, silence_at):
    "Without a header its length is not known, and an estimate from the first frame is wrong."
    parts = [np.tile(VOICE, 4)]
    parts.insert(silence_at, np.zeros(160000, np.float32))
    y = np.concatenate(parts)
    file = mp3_of_variable_bit_rate(tmp_path / 'a.mp3', y, header)
    assert len(load_audio(file)) == pytest.approx(len(y), abs=3000)
    assert sum(map(len, audio_blocks(file, 1))) == pytest.approx(len(y), abs=3000)
    assert len(load_audio(io.BytesIO(file.read_bytes()))) == pytest.approx(len(y), abs=3000)

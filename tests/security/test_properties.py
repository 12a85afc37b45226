"Whatever a file is named and whatever a table holds: a reader gives what was meant, or one typed error."

import json
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from speaker_vgg_cct.config import Config
from speaker_vgg_cct.core import EMOTIONS, SVCError
from speaker_vgg_cct.data.corpora import (
    COLUMNS,
    CORPORA,
    load_manifest,
    read_corpora,
    save_manifest,
)
from speaker_vgg_cct.inference.recognizer import Recognition, sources_of
from speaker_vgg_cct.training.loop import config_of, load_config

text = st.text(st.characters(exclude_categories=['Cs']), max_size=40)
quiet = settings(
    deadline=None, max_examples=200, suppress_health_check=list(HealthCheck)
)  # slow machines are no failure


@pytest.fixture(autouse=True)
def noted(record_property):
    record_property('generated inputs', quiet.max_examples)


@pytest.mark.parametrize('name', CORPORA)
def test_names_of_a_corpus_are_understood(name):
    "Whatever its pattern allows is taken apart into groups that are in it, wherever the file lies."
    corpus = CORPORA[name]

    @quiet
    @given(
        st.from_regex(rf'(?:{corpus.pattern})\Z', fullmatch=True).filter(lambda s: '\n' not in s),
        st.sampled_from(['', 'a/', 'a b/ç/', '../']),
        st.sampled_from(['.wav', '.FLAC']),
    )
    def holds(stem, folder, ending):
        found = corpus.parse(f'{folder}{stem}{ending}')
        assert found and found['clip'] == stem.replace('/', '_')
        assert all(v is None or v in stem for k, v in found.items() if k != 'clip')
        assert (
            corpus.emotion(found['emotion']) in {None, *EMOTIONS} if found.get('emotion') else True
        )

    holds()


@pytest.mark.parametrize('name', CORPORA)
def test_other_names_are_none_of_a_corpus(name):
    @quiet
    @given(text)
    @example('\0')
    @example('/')
    @example('a' * 300)
    def holds(stem):
        found = CORPORA[name].parse(stem)
        assert found is None or isinstance(found['clip'], str)

    holds()


def wav(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.sin(np.arange(8000)).astype('float32'), 16000)


@quiet
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                'emotion': st.sampled_from(['sad', 'Angry', 'hangry', '=1+1', '']),
                'speaker': text,
                'sentence': text,
            }
        ),
        max_size=4,
    ),
    st.sampled_from(['utf-8', 'utf-8-sig', 'utf-16', 'latin-1']),
)
def test_a_table_of_labels(tmp_path_factory, rows, encoding):
    "`metadata.csv` of a folder: every clip with a label that is known, and no other, or an error that names the file."
    folder = tmp_path_factory.mktemp('corpus') / 'OWN'
    for i in range(len(rows)):
        wav(folder / f'{i}.wav')
    table = pd.DataFrame(
        [r | {'file': f'{i}.wav'} for i, r in enumerate(rows)],
        columns=['file', 'emotion', 'speaker', 'sentence'],
    )
    folder.mkdir(exist_ok=True)
    (folder / 'metadata.csv').write_bytes(
        table.to_csv(index=False).encode(encoding, errors='replace')
    )
    try:
        manifest, _ = read_corpora(folder.parent, jobs=1)
    except SVCError as e:
        assert str(folder.parent) in str(e) or 'OWN' in str(e)
        return
    known = {'sad': 'sad', 'Angry': 'anger'}
    assert sorted(manifest.emotion) == sorted(
        known[r['emotion']] for r in rows if r['emotion'] in known
    )


@quiet
@given(
    st.lists(
        st.tuples(text, text, st.sampled_from(sorted(EMOTIONS)), st.floats(0, 1e4)),
        min_size=1,
        max_size=5,
    )
)
def test_a_manifest_is_read_as_it_was_written(tmp_path_factory, rows):
    "Commas, quotes, ends of lines, formulas, other alphabets: the table that is read is the one that was saved."
    t = pd.DataFrame(
        [
            dict.fromkeys(COLUMNS, 'x')
            | dict(
                clip=f'A/{i}',
                path=f'{i}.wav',
                corpus='A',
                speaker=f'A/{s}',
                sentence=w,
                emotion=e,
                seconds=n,
                synthetic=False,
            )
            for i, (s, w, e, n) in enumerate(rows)
        ]
    )
    file = tmp_path_factory.mktemp('m') / 'clips.csv'
    try:  # a speaker may be nobody, or one in two spellings
        save_manifest(t, file)
        found = load_manifest(file)
    except SVCError as e:
        assert 'clips.csv' in str(e) or '.wav' in str(e)
        return
    assert (
        found[['clip', 'speaker', 'emotion']].values.tolist()
        == t[['clip', 'speaker', 'emotion']].values.tolist()
    )
    assert found.sentence.fillna('').tolist() == t.sentence.tolist()


value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda v: st.lists(v, max_size=3) | st.dictionaries(text, v, max_size=3),
    max_leaves=5,
)


@quiet
@given(
    st.dictionaries(
        st.sampled_from([f for f in Config.__dataclass_fields__]) | text, value, max_size=3
    )
)
def test_options_are_taken_or_refused(given_):
    try:
        c = config_of(given_)
        known = c.hash  # of which the content of files is a part
    except SVCError as e:
        assert len(str(e)) < 3000
        return
    assert known == config_of(given_).hash


@quiet
@given(
    text
    | st.dictionaries(text, value, max_size=3).map(lambda d: yaml.safe_dump(d, allow_unicode=True))
)
def test_a_preset_is_read_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.mktemp('y') / 'x.yaml'
    file.write_text(content, encoding='utf-8')
    try:
        load_config(file)
    except SVCError as e:
        assert 'x.yaml' in str(e)


@quiet
@given(text)
@example('\0')
@example('[')
@example('**')
def test_what_is_asked_for_is_a_list_or_an_error(asked):
    with suppress(SVCError):
        assert isinstance(sources_of(asked), list)


@quiet
@given(st.dictionaries(text, st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 1))
def test_an_answer_is_json(probabilities, threshold):
    row = Recognition('a.wav', 1.0, probabilities, threshold).row()
    assert json.loads(json.dumps(row, allow_nan=False))['label'] in probabilities

"What the tests share: the place of the real corpora and of the reference's recorded numbers."

import os
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# The same inputs every time. `make reliability` draws others: `--hypothesis-profile random`.
with suppress(ImportError):
    from hypothesis import settings

    settings.register_profile('random', database=None)
    settings.register_profile('alike', derandomize=True, database=None)
    settings.load_profile('alike')


def pytest_configure(config):
    config.addinivalue_line(
        'markers',
        'slow: a minute or more, for `make test-slow`; what it covers is also tested, smaller, in the notebooks',
    )


def pytest_collection_modifyitems(items):
    "The longest file first, so that at the end no process waits for the one that has it."
    items.sort(key=lambda item: item.path.name != 'test_site.py')


@pytest.fixture(scope='session')
def shared():
    "The folder with `corpora/` and `golden/`; tests that need it skip where it is missing."
    folder = Path(os.environ.get('SVC_SHARED', ROOT.parent / 'shared'))
    if not folder.is_dir():
        pytest.skip(
            f'{folder} is missing: set SVC_SHARED to the folder that holds corpora/ and golden/'
        )
    return folder

"Corpora for the stages that are disturbed, and what they make when nobody disturbs them."

import time

import pytest
from stages import GRID, LIMIT, SMALL, product, start

from speaker_vgg_cct.data.synthetic import build


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp('place')
    build(root / 'corpora', sentences=1)
    (root / 'small.yaml').write_text(SMALL)
    (root / 'study.yaml').write_text(GRID)
    start(root, None).join(LIMIT)  # so that the program is loaded before a clock starts
    return root


@pytest.fixture(scope='module')
def undisturbed(place):
    "What a stage makes, and how long it takes, when nobody disturbs it."
    made = {}

    def of(stage):
        if stage not in made:
            folder, began = place / f'whole-{stage}', time.monotonic()
            folder.mkdir()
            p = start(folder, stage)
            p.join(LIMIT)
            assert p.exitcode == 0, (folder / 'log').read_text()[-2000:]
            made[stage] = product(folder, stage), time.monotonic() - began
        return made[stage]

    return of

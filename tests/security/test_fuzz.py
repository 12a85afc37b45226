"The reader of bundles under coverage-guided fuzzing, a stated number of times."

import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 5000


@pytest.mark.slow
def test_the_reader_of_bundles_survives(tmp_path, record_property):
    pytest.importorskip('atheris', reason='atheris is not installed: it is the extra `fuzz`')
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name('fuzz_bundle.py'),
            f'-runs={RUNS}',
            '-seed=1',
            '-max_len=256',
            '-len_control=0',
            '-rss_limit_mb=3000',
            '-timeout=60',
            f'-artifact_prefix={tmp_path}/',
        ],
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0 and f'Done {RUNS} runs' in done.stderr, done.stderr[-3000:]
    record_property('fuzz executions', RUNS)

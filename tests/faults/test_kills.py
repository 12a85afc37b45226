"A long stage is killed at random moments and started again, until it ends: its product is that of a run which nobody disturbed."

import os
import random
import signal

import pytest
from stages import LIMIT, ONE_FAST, STAGES, product, start

KILLS = 4  # of each stage
MANY = 10  # of each stage, in the slow test
SIGNALS = signal.SIGKILL, signal.SIGINT


def disturbed(place, undisturbed, stage, kills, seed):
    "Kills a stage so often, from the beginning again whenever it comes to its end; returns how often."
    expected, seconds = undisturbed(stage)
    assert expected
    rng, done, rounds = random.Random(seed), 0, 0
    while done < kills:
        folder, rounds = place / f'killed-{stage}-{seed}-{rounds}', rounds + 1
        folder.mkdir()
        for _ in range(10 * kills):
            p = start(folder, stage)
            if done < kills:
                p.join(rng.uniform(0.05, seconds / 3))
                if p.is_alive():
                    os.kill(p.pid, SIGNALS[done % 2])
                    done += 1
            p.join(LIMIT)
            if p.exitcode == 0:
                break
            assert p.exitcode in (-signal.SIGKILL, -signal.SIGINT, 130, 1), (
                folder / 'log'
            ).read_text()[-2000:]
        assert p.exitcode == 0, (folder / 'log').read_text()[-2000:]
        found = product(folder, stage)
        assert sorted(found) == sorted(expected)
        assert [k for k in found if found[k] != expected[k]] == []
    return done


@pytest.mark.parametrize('stage', ONE_FAST)
def test_killed_and_started_again_it_makes_the_same(place, undisturbed, stage, record_property):
    record_property('kills', disturbed(place, undisturbed, stage, KILLS, 0))


@pytest.mark.slow
@pytest.mark.parametrize('stage', STAGES)
def test_killed_many_times(place, undisturbed, stage, record_property):
    record_property('kills', disturbed(place, undisturbed, stage, MANY, 1))


@pytest.mark.parametrize('stage', ONE_FAST)
def test_the_same_command_twice_makes_the_same(place, undisturbed, stage, record_property):
    "On one machine: features, weights, splits, answers and figures, byte for byte."
    expected, _ = undisturbed(stage)
    folder = place / f'again-{stage}'
    folder.mkdir()
    p = start(folder, stage)
    p.join(LIMIT)
    found = product(folder, stage)
    assert p.exitcode == 0 and sorted(found) == sorted(expected)
    assert [k for k in found if found[k] != expected[k]] == []
    record_property('repeats', 1)


@pytest.mark.parametrize('stage', ONE_FAST)
def test_two_at_once_make_the_same(place, undisturbed, stage, record_property):
    "One of the two may say that the other is at work; in the end there is what one alone makes."
    expected, _ = undisturbed(stage)
    folder = place / f'two-{stage}'
    folder.mkdir()
    both = [start(folder, stage, folder / f'log{i}') for i in range(2)]
    for p in both:
        p.join(LIMIT)
    logs = [(folder / f'log{i}').read_text() for i in range(2)]
    for p, log in zip(both, logs):
        assert (
            p.exitcode == 0
            or p.exitcode == 1
            and 'Traceback' not in log
            and 'another process' in log
        ), log[-2000:]
    assert 0 in [p.exitcode for p in both], logs
    found = product(folder, stage)
    assert [k for k in expected if found.get(k) != expected[k]] == [] and len(found) == len(
        expected
    )
    record_property('pairs', 1)

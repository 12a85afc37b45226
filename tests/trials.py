"""What the tests of faults and security tried, as a table: `python tests/trials.py REPORT.xml TABLE.csv`, of a report by `pytest --junitxml`.

A test says what it tried with pytest's `record_property`: kills, bad inputs, fuzz executions and so on, each with a number.
"""

import sys
import xml.etree.ElementTree as ET

import pandas as pd

from speaker_vgg_cct.benchmarks.cost import machine
from speaker_vgg_cct.core import write_text


def counts(report):
    "A row for each test function and kind of trial: how many were tried, in how many tests, and how these ended."
    rows = []
    for case in ET.parse(report).iter('testcase'):
        ended = next(
            (
                how
                for tag, how in (('failure', 'failed'), ('error', 'failed'), ('skipped', 'skipped'))
                if case.find(tag) is not None
            ),
            'passed',
        )
        tried = {p.get('name'): int(p.get('value')) for p in case.iter('property')} or {'cases': 1}
        rows += [
            dict(
                part=case.get('classname').split('.')[1],
                file=case.get('classname').split('.')[-1],
                test=case.get('name').split('[')[0],
                what=what,
                tried=n * (ended == 'passed'),
                **{how: ended == how for how in ('passed', 'skipped', 'failed')},
            )
            for what, n in tried.items()
        ]
    return (
        pd.DataFrame(rows)
        .groupby(['part', 'file', 'test', 'what'], sort=False)
        .sum()
        .astype(int)
        .reset_index()
    )


if __name__ == '__main__':
    report, to = sys.argv[1:]
    table = counts(report).assign(**machine('cpu'), command='make reliability')
    write_text(to, table.to_csv(index=False))
    print(table.groupby('what')[['tried', 'passed', 'skipped', 'failed']].sum())
    sys.exit(int(table.failed.sum() > 0))

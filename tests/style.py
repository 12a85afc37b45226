"The figures of style of this repository: `python tests/style.py` prints lines over 100 and 120 columns and semicolons per 1,000 non-blank lines."

import io
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent


def figures(folder):
    "Non-blank lines, shares of them over 100 and 120 columns (percent), semicolons per 1,000."
    lines = semicolons = over_100 = over_120 = 0
    for file in sorted(Path(folder).rglob('*.py')):
        if file.name == '_modidx.py':
            continue
        text = file.read_text(encoding='utf-8')
        widths = [len(line) for line in text.splitlines() if line.strip()]
        lines += len(widths)
        over_100 += sum(w > 100 for w in widths)
        over_120 += sum(w > 120 for w in widths)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        semicolons += sum(t.type == tokenize.OP and t.string == ';' for t in tokens)
    return lines, 100 * over_100 / lines, 100 * over_120 / lines, 1000 * semicolons / lines


if __name__ == '__main__':
    for folder in sys.argv[1:] or [ROOT / 'speaker_vgg_cct', ROOT / 'tests']:
        lines, over_100, over_120, semicolons = figures(folder)
        print(
            f'{Path(folder).name}: {lines} lines, {over_100:.1f} % over 100 columns, '
            f'{over_120:.1f} % over 120, {semicolons:.1f} semicolons per 1,000'
        )

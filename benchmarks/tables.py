"""README's tables, made from the catalog, the cards and the committed claims: `python -m benchmarks.tables --write`."""
import re
import sys
from collections import Counter
from pathlib import Path

from ssl_workbench import catalog
from ssl_workbench.claims import load_claims, verdicts

README = Path(__file__).resolve().parent.parent/'README.md'
METHODS = re.compile(r'(\| method \| paper \| inputs \| state \| name \|\n\|[-|]+\n)(?:\|.*\n)+')
BETWEEN = re.compile(r'(<!-- results[^>]*-->\n).*?(<!-- /results -->)', re.S)


def score_rows(name, card):
    "One line a score: ours with its interval, and each baseline"
    for s in card['scores']:
        beside = ' · '.join(f'{k} {v:.3f}' for k, v in s['baselines'].items())
        yield f"| `{name}` | {s['name']} | **{s['value']:.3f}** ± {s['half']:.3f} | {beside} |"


def images_per_step(config) -> str:
    "How many images a step has; the sparser, the more"
    growth = config.get('growth', [1])
    return '–'.join(str(round(config['batch'] * g)) for g in dict.fromkeys((min(growth), max(growth))))


def recipe_line(name, card):
    "How the weights were trained"
    data = ' + '.join(d['name'] for d in card['data'])
    return (f"`{name}`: {card['steps']:,} steps of {images_per_step(card['config'])} pictures on {data}, "
            f"{card['preset']} preset with {len(card['changed'])} settings changed, seed {card['seed']}, "
            f"{card['wall_seconds'] / 60:.0f} min on {card['device']}; again: `{card['command']}`")


def claim_row(result):
    "One line a claim: how many of its sentences hold"
    counts = Counter(v['verdict'] for v in verdicts(result))
    words = ', '.join(f'{n} {w}' for w, n in sorted(counts.items()))
    title = catalog.find(result['method']).title
    return f"| {title} | {result['where']} | {result['sentence']} | {words} | `{result['command']}` |"


def table() -> str:
    "The markdown between README's marks"
    cards, claims = catalog.cards(), load_claims()
    lines = ['| weights | score | value ± 95 % interval over three probe seeds | baselines |', '|---|---|---|---|']
    lines += [row for name, card in cards.items() for row in score_rows(name, card)]
    lines += ['', *(f'- {recipe_line(name, card)}' for name, card in cards.items()), '']
    lines += ['| method | of the paper | sentence | pairs, over three seeds | again |', '|---|---|---|---|---|',
              *map(claim_row, claims)]
    return '\n'.join(lines) + '\n'


def method_rows() -> str:
    "The catalog as rows of README's first table"
    return ''.join(f"| {e.title} | {e.authors}, {e.venue} | {' + '.join(e.inputs)} | {e.state} | `{e.name}` |\n"
                   for e in catalog.catalog)


def written(text) -> str:
    "README with the catalog in its table of methods, and the results between their marks"
    text = METHODS.sub(lambda m: m[1] + method_rows(), text)
    return BETWEEN.sub(lambda m: m[1] + table() + m[2], text)


if __name__ == '__main__':
    if '--write' in sys.argv: README.write_text(written(README.read_text(encoding='utf-8')), encoding='utf-8')
    else: print(table())

"""README's table of methods, and the site's results, from catalog, cards and claims.

`python -m benchmarks.tables --write` puts the table between README's marks.
"""
import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path

from ssl_workbench import catalog
from ssl_workbench.claims import load_claims, verdicts

ROOT = Path(__file__).resolve().parent.parent
README = ROOT/'README.md'
BETWEEN = re.compile(r'(<!-- methods[^>]*-->\n).*?(<!-- /methods -->)', re.S)

def strongest(score) -> tuple:
    "(name, value) of the baseline that is hardest to beat"
    return (min if catalog.less_is_better(score) else max)(catalog.rivals(score).items(), key=lambda kv: kv[1])


def margin(score) -> float:
    "How far better than its strongest baseline, in half widths of its own 95 % interval"
    gap = score['value'] - strongest(score)[1]
    return (-gap if catalog.less_is_better(score) else gap) / max(score['half'], 1e-4)


def best_score(card) -> dict:
    "The first on the card, its own task before others, that beats two baselines or more by over its own interval"
    compared = [s for s in card['scores'] if len(catalog.rivals(s)) > 1] or card['scores']
    return next((s for s in compared if margin(s) > 1), compared[0])


def beside(score) -> str:
    "A score with its strongest baseline, in words"
    name, value = strongest(score)
    return f"{score['name']}: **{score['value']:.3g}** · {name} {value:.3g}"


def counts(method) -> Counter:
    "Verdict → how many pairs, over all claims of a method"
    return Counter(v['verdict'] for r in load_claims(f'{method}-') for v in verdicts(r))


def page_of(path):
    "(method, title, question, text) of a page of the app, read from its notebook; None where it has none"
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    code = next((''.join(c['source']) for c in cells if 'PAGE = Page(' in ''.join(c['source'])), None)
    if code is None: return None
    call = next(n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Call) and getattr(n.func, 'id', '') == 'Page')
    words = [ast.literal_eval(a) if isinstance(a, (ast.Constant, ast.BinOp, ast.JoinedStr)) else '' for a in call.args]
    return dict(zip(('name', 'method', 'title', 'question', 'text'), words))


def pages() -> list:
    "All pages of the app that belong to a method"
    found = map(page_of, sorted((ROOT/'nbs/app').glob('*.ipynb')))
    return [p for p in found if p and p['method'] and p['name'] != 'training']


def lesson(name) -> str:
    "The notebook that exports a method, from the root"
    notebooks = sorted((ROOT/'nbs/methods').glob('*.ipynb')) + sorted((ROOT/'nbs/classics').glob('*.ipynb'))
    pattern = re.compile(rf'"#\| default_exp (methods|classics)\.{name}(\.__init__)?(\\n)?"')
    return next(p for p in notebooks if pattern.search(p.read_text(encoding='utf-8'))).relative_to(ROOT).as_posix()


def method_row(entry, cards, shown) -> str:
    "A method in README's table"
    found = counts(entry.name)
    verdict = ' / '.join(str(found[w]) for w in ('holds', 'opposite', 'unclear')) if found else 'none run yet'
    page = next((f"{p['title']}: {p['question']}" for p in shown if p['method'] == entry.name), '–')
    score = beside(best_score(cards[entry.name])) if entry.name in cards else 'no weights bundled yet'
    return (f"| [{entry.title}]({lesson(entry.name)}) | {entry.authors}, {entry.venue} | {page} | {score} | "
            f"{verdict} |\n")


def method_table() -> str:
    "README's table: a row a method"
    cards, shown = catalog.cards(), pages()
    head = ('| method, with its notebook | paper | its app shows | best score · strongest baseline | '
            'claims: held / opposite / undecided |\n|---|---|---|---|---|\n')
    return head + ''.join(method_row(e, cards, shown) for e in catalog.catalog)


def written(text) -> str:
    "README with its table between the marks"
    return BETWEEN.sub(lambda m: m[1] + method_table() + m[2], text)


# ---- for the site

def score_table(card) -> str:
    "A card's scores: each with its interval and every baseline, whose name and value stay on one line if they fit"
    rows = []
    for s in card['scores']:
        pairs = [f'{k} {v:.3f}' for k, v in s['baselines'].items()]
        beside = ' '.join(f'<span class="pair">{p}{";" * (p != pairs[-1])}</span>' for p in pairs)
        rows.append(f"| {s['name']} | <span class=\"whole\">**{s['value']:.3f}** ± {s['half']:.3f}</span> | {beside} |")
    return '\n'.join(['| score | value ± 95 % interval | baselines |', '|---|---|---|', *rows])


def images_per_step(config) -> str:
    "How many images a step has; the sparser, the more"
    growth = config.get('growth', [1])
    return '–'.join(str(round(config['batch'] * g)) for g in dict.fromkeys((min(growth), max(growth))))


def recipe_line(name, card) -> str:
    "How the weights were trained"
    data = ' + '.join(d['name'] for d in card['data'])
    return (f"`{name}`: {card['steps']:,} steps of {images_per_step(card['config'])} pictures on {data}, "
            f"{card['preset']} preset with {len(card['changed'])} settings changed, seed {card['seed']}, "
            f"{card['wall_seconds'] / 60:.0f} min on {card['device']}. Run it again: `{card['command']}`")


def claim_line(result) -> str:
    "A claim's verdicts, counted: 2 hold, 1 unclear"
    found = Counter(v['verdict'] for v in verdicts(result))
    return ', '.join(f"{n} {'hold' if w == 'holds' and n > 1 else w}" for w, n in sorted(found.items()))


if __name__ == '__main__':
    if '--write' in sys.argv: README.write_text(written(README.read_text(encoding='utf-8')), encoding='utf-8')
    else: print(method_table())

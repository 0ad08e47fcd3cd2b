"""The site's results: every bundled score and every claim with its card, its baselines, its verdict and its command."""
import json
from pathlib import Path

from benchmarks import tables
from ssl_workbench import catalog
from ssl_workbench.claims import load_claims, scores, verdicts

ROOT = Path(__file__).resolve().parent.parent
HOW = '''# Scores

What comes with the project was trained on {devices}: small networks, minutes to an hour and a half of training. Most
learnt from drawn pictures; those whose names end in *-real* learnt from photographs of 64 pixels, drives and films.
They show how a method begins to work on real pictures, not how good it is in its paper: at naming photographs
(*Tiny-ImageNet*) the best get about twice what random weights get, and finding their main object stays close to random
weights. Read each number beside its baselines.
Where a baseline is better, that is the result. ± is half of a 95 % interval over three seeds, unless *How each score
is measured* says otherwise.

Slots are judged against the true objects of drawn scenes: *full ARI* asks whether two pixels belong together,
background included; *mean best IoU* asks how well any slot covers each object. An image-blind grid and clusters of
colours show how good a result without learning is, *truth at patches* the best possible with patches of this size.

To draw your own run over the bundled one: `show.curves(read_log('runs/mine'), reference=catalog.reference('slotmim'))`.

'''


def number(x, digits=3) -> str:
    "A number, or a dash"
    return '–' if x is None else f'{x:+.{digits}f}' if digits > 3 else f'{x:.{digits}f}'


def card_section(name, card) -> list:
    "One set of weights: how it was made, its scores, their protocols"
    title = catalog.find(card['method'].split('.')[2] if card['method'].count('.') > 1 else card['method']).title
    protocols = {s['name']: s['protocol'] for s in card['scores']}
    lines = [f'## {name}', '', f'{title}. {tables.recipe_line(name, card)}', '',
             f'[The card](cards/{name}.json) holds its settings, data with licences, versions and fingerprint.', '',
             tables.score_table(card), '',
             '??? note "How each score is measured"', '']
    return lines + [f'    - *{k}*: {v}' for k, v in protocols.items()] + ['']


def scores_page() -> str:
    "All bundled scores"
    cards = catalog.cards()
    devices = ' or '.join(sorted({c['device'] for c in cards.values()}))
    return HOW.format(devices=devices) + '\n'.join(l for n, c in cards.items() for l in card_section(n, c))


def arm_rows(result) -> list:
    "Mean of each arm beside the paper's figure, a column a metric"
    metrics = result['metrics']
    lines = ['| | ' + ' | '.join(m['title'] for m in metrics.values()) + ' | seeds |',
             '|---|' + '---|' * (len(metrics) + 1)]
    arms = [(a, arm['runs']) for a, arm in result['arms'].items()] + list(result.get('references', {}).items())
    for arm, runs in arms:
        cells = []
        for metric in metrics:
            values, paper = list(scores(runs, metric).values()), result['paper'].get(arm, {}).get(metric)
            mean = number(sum(values) / len(values)) if values else '–'
            cells.append(mean + (f' (paper {paper:g})' if paper is not None else ''))
        lines.append(f"| {arm} | {' | '.join(cells)} | {len(runs)} |")
    return lines + ['']


def pair_rows(result) -> list:
    "Each pair's difference, interval and verdict"
    lines = ['| pair | score | mean difference | 95 % interval | verdict |', '|---|---|---|---|---|']
    for v in verdicts(result):
        between = f"{number(v['low'], 4)} … {number(v['high'], 4)}"
        lines.append(f"| {v['what']} | {result['metrics'].get(v['metric'], dict(title=v['metric']))['title']} | "
                     f"{number(v['mean'], 4)} | <span class=\"whole\">{between}</span> | **{v['verdict']}** |")
    return lines + ['']


def claim_section(result) -> list:
    "One claim"
    title, where = catalog.find(result['method']).title, result['where'].split(':')[0]
    anchor = f"{{ #{result['method']}-{result['id']} }}"
    return [f"## {title}: {where[0].lower() + where[1:]} {anchor}", '',
            f"> {result['sentence']}  ", f"> *{result['where']}*", '',
            f"**{tables.claim_line(result)}**. Setting: {result['setting']}.", '',
            '```sh', result['command'], '```', '',
            *pair_rows(result), '??? note "Every arm beside the paper\'s figure"', '',
            *('    ' + l for l in arm_rows(result)), '']


def claims_page() -> str:
    "All committed claims"
    lines = ['# Claims', '', 'Sentences from the papers that a small run can test. Each is split into pairs, such as '
             '“A scores above B”, and every pair is run with several seeds. It *holds* when the 95 % interval of the '
             'paired differences lies above zero, is *opposite* when it lies below, and is *unclear* otherwise; '
             '[the lesson](../31_claims.md) explains why.', '',
             '| method | claim | source | pairs |', '|---|---|---|---|']
    results = load_claims()
    for r in results:
        claim = f"[{r['sentence'].rstrip('.')}](#{r['method']}-{r['id']})"
        lines.append(f"| {catalog.find(r['method']).title} | {claim} | {r['where']} | {tables.claim_line(r)} |")
    return '\n'.join([*lines, '', *(l for r in results for l in claim_section(r))])


def public(upstream) -> list:
    "The repositories that ours was run beside, each once"
    if isinstance(upstream, str): return [upstream.removeprefix('https://github.com/')]
    if isinstance(upstream, dict) and 'repository' in upstream:
        commit = str(upstream.get('commit') or '')[:7]
        return [str(upstream['repository']).removeprefix('https://github.com/') + (f' at `{commit}`' if commit else '')]
    parts = upstream.values() if isinstance(upstream, dict) else upstream
    return list(dict.fromkeys(w for part in parts for w in public(part)))


def fidelity_section(record) -> list:
    "One comparison: how far apart, with what, known differences"
    known = record.get('known_differences', [])
    lines = [f"## {record['what'].split(':')[0]}", '', f"{record['what']}.", '',
             f"- Public code: {', '.join(public(record['upstream']))}",
             f"- Largest difference held to a tolerance of {record['tolerance']:g}: {record['largest']:.2g}",
             f"- Run it again: `{record['command']}`", '']
    return lines + (['??? note "Known differences"', '', *(f'    - {k}' for k in known), ''] if known else [])


def fidelity_page() -> str:
    "What agreed with public code"
    files = sorted((ROOT/'benchmarks/results').glob('fidelity-*.json'))
    records = [json.loads(p.read_text(encoding='utf-8')) for p in files]
    lines = ['# Agreement with public code', '', "Our losses and networks, run beside their authors' public code on "
             'the same inputs and weights. The public code is not part of this project.', '']
    return '\n'.join([*lines, *(l for r in records for l in fidelity_section(r))])


def write(folder) -> list:
    "The pages; returns the entries of the navigation"
    (folder/'cards').mkdir(parents=True, exist_ok=True)
    for name in catalog.cards():
        source = ROOT/'ssl_workbench/weights'/f'{name}.json'
        (folder/'cards'/source.name).write_bytes(source.read_bytes())
    for name, text in dict(index=scores_page(), claims=claims_page(), fidelity=fidelity_page()).items():
        (folder/f'{name}.md').write_text(text, encoding='utf-8')
    return ['results/index.md', {'Claims': 'results/claims.md'}, {'Agreement with public code': 'results/fidelity.md'}]

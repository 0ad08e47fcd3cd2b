"""The glossary's words in the method lessons: none is used before it is explained or linked.

`python -m docs.words` lists what is missing; `--write` puts one line of links to them below a lesson's title, and
copies the glossary into the package, where the app reads it.
"""
import json
import re
import sys
from pathlib import Path

from docs.notebooks import ROOT, read, text

GLOSSARY, PACKAGED = ROOT/'nbs/glossary.md', ROOT/'ssl_workbench/app/glossary.md'
APP = "\n## Reading the app's pictures\n"                 # everyday words, which lessons need not explain
ENTRY = re.compile(r'^### (.+)\n(?:\*Also: (.+)\.\*\n)?(.+)', re.M)
TWO_MEANINGS = {'flow', 'contrast', 'contrasted', 'positive', 'negative', 'centre', 'codes', 'warp', 'views', 'clips',
                'rank', 'linear readout'}
LINE = '*Words:* '                                       # how the line of links begins


def glossary(app=False) -> dict:
    "Entry → every word for it that has no second meaning; with `app` also those that only the app explains"
    text = GLOSSARY.read_text(encoding='utf-8')
    found = ENTRY.findall(text if app else text.split(APP)[0])
    return {word: [word, *(w for w in also.split(', ') if w and w not in TWO_MEANINGS)] for word, also, _ in found}


def anchor(word) -> str:
    "The address of an entry: its heading, as mkdocs and code hosts write it"
    return re.sub(r'[^\w\- ]', '', word.lower()).replace(' ', '-')


def pattern(words) -> re.Pattern:
    "Any of the words, in the singular or the plural; abbreviations in capitals only"
    either = '|'.join(re.escape(w) if re.search('[A-Z]', w) else f'(?i:{re.escape(w)})' for w in words)
    return re.compile(rf'(?<![\w-])(?:{either})(?:s|es)?(?![\w-])')


def prose(source) -> str:
    "What is read as sentences: no code, no equations, no headings, no tables, no alternative texts, no references"
    source = re.sub(r'```.*?```|\$\$.*?\$\$', ' ', source, flags=re.S)
    source = re.split(r'^## References', source, flags=re.M)[0]
    source = re.sub(r'^(?:#+ |\|).*$|^> (?!\*\*).*$', '', source, flags=re.M)
    return re.sub(r'`[^`]*`|\$[^$\n]*\$|!\[[^]]*\]\([^)]*\)', ' ', source)


def explained(words, start, end) -> bool:
    "Whether a word at a place is linked, set in bold or italics, or followed by its meaning"
    spans = [m.span() for m in re.finditer(r'\[[^]]*\]\([^)]*\)|\*\*[^*]+\*\*|(?<!\*)\*[^*\s][^*]*\*(?!\*)', words)]
    return any(a <= start and end <= b for a, b in spans) or bool(re.match(r'\s*\(|: ', words[end:]))


def missing(cells) -> list:
    "Entries whose first use in a lesson is neither explained nor linked, in the order of reading"
    left, found = {e: pattern(w) for e, w in glossary().items()}, []
    for cell in cells:
        if cell['cell_type'] != 'markdown': continue
        words = prose(text(cell['source']))
        met = [(m.start(), m.end(), e) for e, p in left.items() if (m := p.search(words))]
        for start, end, entry in sorted(met):
            del left[entry]
            if not explained(words, start, end): found.append(entry)
    return found


def line(entries) -> str:
    "The line of links"
    return LINE + ' · '.join(f'[{e}](../glossary.md#{anchor(e)})' for e in entries)


def lessons() -> list:
    "The method lessons"
    return sorted((ROOT/'nbs/methods').glob('*.ipynb'))


def write(path) -> bool:
    "Puts the line below the lesson's title, in the same cell; whether the lesson changed"
    old = path.read_text(encoding='utf-8')
    nb = json.loads(old)
    first = nb['cells'][0]
    title = text(first['source']).split(f'\n\n{LINE}')[0]
    first['source'] = [title]
    entries = missing(nb['cells'])
    if entries: title += f'\n\n{line(entries)}'
    first['source'] = title.splitlines(keepends=True)
    new = json.dumps(nb, sort_keys=True, indent=1, ensure_ascii=False) + '\n'
    path.write_text(new, encoding='utf-8')
    return new != old


def main():
    if '--write' in sys.argv: PACKAGED.write_bytes(GLOSSARY.read_bytes())
    for path in map(Path, lessons()):
        if '--write' in sys.argv: print(path.name, 'changed' if write(path) else 'as it was')
        else: print(path.name, ', '.join(missing(read(path))) or 'nothing is missing')


if __name__ == '__main__': main()

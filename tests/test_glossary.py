"""The glossary: entries lead to lessons; no method lesson uses a word of it before it is explained or linked."""
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from docs import notebooks, words  # noqa: E402

cells = lambda *sources: [dict(cell_type='markdown', source=s) for s in sources]


@pytest.mark.parametrize('path', words.lessons(), ids=lambda p: p.name)
def test_words_are_explained_first(path):
    "Linked, set apart, or followed by their meaning, at their first use"
    assert words.missing(notebooks.read(path)) == [], 'explain or link them, or run: python -m docs.words --write'


@pytest.mark.parametrize('path', words.lessons(), ids=lambda p: p.name)
def test_links_lead_to_entries(path):
    "Every link into the glossary meets a heading"
    prose = '\n'.join(notebooks.text(c['source']) for c in notebooks.read(path) if c['cell_type'] == 'markdown')
    links = re.findall(r'glossary\.md#([^)]+)\)', prose)
    assert set(links) <= {words.anchor(e) for e in words.glossary(app=True)}


def test_the_check_finds_what_is_missing():
    "A bare first use is found; a link, bold, italics, a meaning in brackets will do; code and headings do not count"
    assert words.missing(cells('# A\n\n> collapse', 'A **teacher** and its EMA.')) == ['EMA']
    assert words.missing(cells('An [EMA](x.md) is slow.', 'EMA again.')) == []
    assert words.missing(cells('Its effective rank (how many directions it uses) falls.')) == []
    assert words.missing(cells('## Collapse\n\n`collapse` $collapse$\n\n| collapse |\n|---|\n')) == []
    assert words.missing(cells('It collapses; *collapse* is the end.')) == ['collapse']
    assert words.missing(cells('## References\n\nSinkhorn, 1964')) == []


def test_entries():
    "An entry says what it means and names a lesson that is there; no two share an address"
    text = words.GLOSSARY.read_text(encoding='utf-8')
    entries = words.ENTRY.findall(text)
    assert len(entries) == text.count('\n### ') > 50
    assert len({words.anchor(e) for e, *_ in entries}) == len(entries)
    for entry, _, meaning in entries:
        lesson = re.search(r'\[[^]]+\]\(([^)]+\.ipynb)\)$', meaning)
        assert lesson and (ROOT/'nbs'/lesson[1]).exists(), entry
        assert 30 < len(meaning) < 330, entry


def test_the_app_reads_the_same_glossary():
    "The package holds a copy; every word of an entry is one that the app can explain, without the link"
    assert words.PACKAGED.read_bytes() == words.GLOSSARY.read_bytes(), 'run: python -m docs.words --write'
    pytest.importorskip('gradio')
    from ssl_workbench.app.about import GLOSSARY
    text = words.GLOSSARY.read_text(encoding='utf-8')
    for entry, also, meaning in words.ENTRY.findall(text):
        for word in (entry, *filter(None, also.split(', '))):
            assert meaning.startswith(GLOSSARY[word]) and GLOSSARY[word].endswith('.'), word


def test_symbols():
    "A row a symbol: what code calls it, what it is, a lesson that is there"
    rows = re.findall(r'^\| (\$.+?\$) \| (`.+?) \| (.+?) \| \[.+?\]\((.+?)\) \|$',
                      (ROOT/'nbs/symbols.md').read_text(encoding='utf-8'), re.M)
    assert len(rows) > 20 and len({r[0] for r in rows}) == len(rows)
    assert all((ROOT/'nbs'/r[3]).exists() for r in rows)

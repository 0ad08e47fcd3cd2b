"""The pages that mkdocs builds the site from, made anew in _docs: `python -m docs`."""
import importlib.util
import json
import os
import shutil
from pathlib import Path

from docs import api, methods, notebooks, results

ROOT = Path(__file__).resolve().parent.parent
HERE, SITE = ROOT/'docs', Path(os.environ.get('SITE_SOURCE', ROOT/'_docs'))


def mathjax() -> Path:
    "MathJax in one file, from the package that carries it"
    found = importlib.util.find_spec('mathjax')
    path = Path(next(iter(found.submodule_search_locations)))/'static/mathjax/es5/tex-svg.js' if found else None
    if path is None or not path.exists():
        raise SystemExit('equations need django-static-mathjax: make docs installs it')
    return path


def nav_of(folder) -> list:
    "Notebooks of a folder with their titles"
    return [{notebooks.title_of(p)[0]: notebooks.site_path(p)} for p in sorted((ROOT/'nbs'/folder).glob('*.ipynb'))
            if p.name != 'index.ipynb']


def navigation(method_pages, result_pages, reference) -> list:
    "All pages, in the order of a reader"
    rooms = [{'The world': nav_of('world')}, {'Data': nav_of('data')}, *nav_of('.'), {'Probes': nav_of('probes')},
             {'Panels': nav_of('panels')}, {'App': nav_of('app')}]
    return [{'Start': ['index.md', {'Tour in five minutes': 'tour.md'}, {'Command line': 'command_line.md'},
                       {'Your own data': 'own_data.md'}, {'How it compares': 'compares.md'}]},
            {'Methods': method_pages}, {'Classics': nav_of('classics')}, {'Foundations': ['foundations.md', *rooms]},
            {'Course': ['course.md', {'Glossary': 'glossary.md'}, {'Symbols': 'symbols.md'}]},
            {'Results': result_pages}, {'Reference': reference},
            {'Contribute': [{'Add a method': 'contributing.md'}, {'Changes': 'changes.md'}]}]


def write_notebooks():
    "Every notebook as a page"
    for path in notebooks.sources():
        target = SITE/notebooks.site_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(notebooks.page(path, target), encoding='utf-8')


def copied(source, target):
    "A page of the project as a page of the site"
    text = (ROOT/source).read_text(encoding='utf-8').replace('](nbs/', '](')
    (SITE/target).write_text(notebooks.linked(text), encoding='utf-8')


def main():
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(HERE/'pages', SITE)
    for path in SITE.glob('*.md'): path.write_text(notebooks.linked(path.read_text(encoding='utf-8')), encoding='utf-8')
    shutil.copytree(HERE/'assets', SITE/'assets')
    shutil.copytree(ROOT/'nbs/images', SITE/'images')
    shutil.copy(mathjax(), SITE/'assets/mathjax.js')
    for name in ('touch.js', 'touch.css'): shutil.copy(ROOT/'ssl_workbench/panels'/name, SITE/'assets')
    for source, target in (('CONTRIBUTING.md', 'contributing.md'), ('CHANGELOG.md', 'changes.md'),
                           ('nbs/glossary.md', 'glossary.md'), ('nbs/symbols.md', 'symbols.md')):
        copied(source, target)
    write_notebooks()
    nav = navigation(methods.write(SITE/'methods'), results.write(SITE/'results'), api.write(SITE/'api'))
    (SITE/'nav.json').write_text(json.dumps(nav), encoding='utf-8')


if __name__ == '__main__': main()

"""What mkdocs does on the way: the navigation, a publisher's settings, equations, and moments of touch."""
import configparser
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SCRIPTS = ('<script src="{0}assets/mathjax-settings.js"></script>\n'
           '<script id="MathJax-script" async src="{0}assets/mathjax.js"></script>\n')

STILLS = ('<link rel="stylesheet" href="{0}assets/touch.css">\n'
          '<script type="module" src="{0}assets/stills.js"></script>\n')


def on_config(config):
    "The navigation that `python -m docs` wrote; addresses only where a publisher filled them in"
    config['nav'] = json.loads((Path(config['docs_dir'])/'nav.json').read_text(encoding='utf-8'))
    ini = configparser.ConfigParser()
    ini.read(ROOT/'settings.ini')
    ini = ini['DEFAULT']
    if 'example' not in ini['doc_host']: config['site_url'] = ini['doc_host'] + ini['doc_baseurl'] + '/'
    if '/example/' not in ini['git_url']: config['repo_url'] = ini['git_url']
    config['copyright'] = f"{ini['copyright']}, Apache License 2.0"
    return config


def on_files(files, config):
    "What only the build reads is no part of the site"
    files.remove(files.get_file_from_path('nav.json'))
    return files


def on_page_content(html, page, config, files):
    "Wide tables scroll inside themselves, by keyboard too; lessons are searched by their words, not by their code"
    frame = '<div class="scroll" tabindex="0" role="region" aria-label="Table">'
    html = html.replace('<table>', frame + '<table>').replace('</table>', '</table></div>')
    if page.file.src_uri.startswith('api/'): return html
    return re.sub(r'<div class="([a-z ]*)highlight"', r'<div data-search-exclude class="\1highlight"', html)


def on_post_page(output, page, config):
    "Equations are set where there are any, and moments of touch are played"
    wanted = SCRIPTS * ('class="arithmatex"' in (page.content or '')) + STILLS * ('data-still=' in (page.content or ''))
    depth = page.url.count('/') if page.url not in ('', '.', './') else 0
    return output.replace('</body>', wanted.format('../' * depth) + '</body>')

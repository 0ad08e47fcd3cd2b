"""The glossary's words, and whether a lesson uses one before it is explained or linked."""
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTRY = re.compile(r'^### (.+)\n(?:\*Also: (.+)\.\*\n)?(.+)', re.M)
PLAIN = ('patch', 'token', 'view', 'student', 'teacher', 'frozen', 'flow', 'momentum', 'baseline', 'centre', 'contrast',
         'codes', 'positive', 'negative', 'clip', 'clips', 'patches', 'tokens', 'views', 'random weights', 'baselines')


def glossary() -> dict:
    "Entry → the words that mean it, longest first"
    text = (ROOT/'nbs/glossary.md').read_text(encoding='utf-8')
    found = {word: [word, *(also.split(', ') if also else [])] for word, also, _ in ENTRY.findall(text)}
    return {word: sorted(words, key=len, reverse=True) for word, words in found.items()}


def anchor(word) -> str:
    "The heading's address, as mkdocs, Jupyter and code hosts make it"
    return re.sub(r'[^\w\- ]', '', word.lower()).replace(' ', '-')

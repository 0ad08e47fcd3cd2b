"""What visitors have stumbled over, each mended once; what needs a browser is in test_app."""
import json
import re
from pathlib import Path

import pytest

pytest.importorskip('gradio')


def test_real_pictures_come_first():
    "Examples begin with a photograph where there is one, and with weights whose card names more than the drawn world"
    from ssl_workbench.app import models
    assert not models.real_pictures() or models.example_files()[0] == models.real_pictures()[0]
    first = models.choices('slots')[0]
    assert models.knows_photos(first) and 'photographs' in models.describe_weights(first)
    assert 'never seen a photograph' in models.describe_weights('slotmim')
    assert 'Beyond these weights' in models.beyond_note('slotmim', 'holiday.jpg')
    assert not models.beyond_note(first, 'holiday.jpg') and not models.beyond_note('slotmim', 'drawn-world-1.png')


def test_every_page_explains_itself():
    "Each page has the fold, knows its words, and links its paper"
    from ssl_workbench.app import about, shell
    for page in shell.pages().values():
        assert page.seeing and page.terms and set(page.terms) <= set(about.GLOSSARY), page.name
        assert not page.method or 'https://' in about.sources(page), page.name


def test_futures_go_round_with_the_truth():
    "Reels of unequal length last equally long: the shorter is grey where it has ended"
    import torch

    from ssl_workbench.app import playback
    frames = lambda n: torch.zeros(n, 3, 8, 8, dtype=torch.uint8)
    past = dict(seen=frames(2), truth=frames(3))
    state = dict(now=None, t=1., done=frames(5)[None], calls=1, seconds=1.)
    page = playback.stage(past, state, torch.tensor([0]))
    assert re.findall(r'reel ([\d.]+)s steps\((\d+)\)', page) == [(f'{7 / playback.FPS:.3f}', '7')] * 2


def test_a_single_picture_leaves_no_old_pair():
    "Flow with A alone shows A and says that B is wanted"
    import gradio as gr

    from ssl_workbench.app import flow, models
    with gr.Blocks(): ui = flow.layout()
    alone = flow.frames_from(flow.ORIGINS[1], '', 1, 1, models.drawn_files()[0], None, None, 1, 1)
    seen = flow.flow_view(ui, alone, 'DIS', .5, '')
    assert seen[ui.a] is not None and seen[ui.b] is None and 'B' in seen[ui.status] and seen[ui.table] == ''
    assert all(seen[column[0]]['visible'] is False for column in ui.columns.values())


def test_the_piece_starts_off_the_middle():
    "Where guessing the middle is no good answer; the prior is told"
    from ssl_workbench.app import locations, models
    name, image = 'loca' + models.RANDOM, models.world_pictures()[0]
    box = locations.box_around(locations.START, .4)
    true = locations.true_cells(box, models.model(name).config.grid, 3)
    exact, near, n = locations.hits(locations.middle_cells(true, models.model(name).config.grid), true,
                                    models.model(name).config.grid)
    assert near < n / 2 and 'The prior' in locations.piece_figure(name, image, box)


def test_a_saved_training_is_offered(tmp_path, monkeypatch):
    "What was trained on the page is a run that the pickers and the catalog open"
    from ssl_workbench.app import models, training
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='nothing to save'): training.save_run('nobody')
    run = training._runs.of('visitor-1', 'vicreg')
    run.live.step(1)
    file, words = training.save_run('visitor-1')
    home = str(Path('runs')/'app-vicreg-visito')
    assert home in words and Path(file['value']).stat().st_size > 1000
    assert home in models.choices('features') and models.model(home).config == run.live.method.config
    assert models.seen_by(home) == [f'world:{run.live.config.kind}:{run.live.config.level}']
    assert 'step 0' in run.examine() and 'rank' not in training.examined('nobody')
    assert json.loads((Path(home)/'settings.json').read_text())['method'] == 'vicreg'
    training._runs.drop('visitor-1')

"""One contract, held by every method that the catalog calls ready; and the bundled weights."""
import math

import pytest
import torch

from benchmarks.weights.recipes import recipe_of
from ssl_workbench import catalog, world
from ssl_workbench.learner import draw_seeds

READY = [e.name for e in catalog.catalog + catalog.classics if e.state == 'ready']
needs = pytest.mark.parametrize('name', READY)
SEE = [name for name in READY if catalog.find(name).inputs != ('caption',)]
sees = pytest.mark.parametrize('name', SEE)          # not what reads sentences alone


def batch(n=4, size=64, seed=0, frames=2):
    "Images of the world as a learner hands them over"
    drawn = world.batch(torch.arange(n), device='cpu', kind='scene', level=0, size=(size, size), frames=frames)
    video = {k: drawn[k] for k in ('frames', 'flow', 'flow_back', 'facts')}
    return video | {'aspect': torch.ones(n), 'seed': draw_seeds(seed, range(n))}


def cached(n=4, seed=0):
    "Features of clips as a cache hands them over"
    draw, c = torch.Generator().manual_seed(0), catalog.module('scale').cpu
    boxes = torch.rand(n, c.clips, 2, 3, generator=draw).sort(2).values.flatten(2)
    return dict(features=torch.randn(n, c.clips, c.inputs, generator=draw), boxes=boxes,
                flip=torch.zeros(n, c.clips).bool(), seed=draw_seeds(seed, range(n)))


def inputs_of(name, seed=0):
    "A batch of what a method learns from: pairs of frames with their flow, clips, or cached features"
    inputs = catalog.find(name).inputs
    return cached(seed=seed) if 'features' in inputs else batch(seed=seed, frames=8 if 'clip' in inputs else 2)


def build(name, seed=0):
    "(module, method, views of one batch) of the cpu preset"
    torch.manual_seed(seed)
    home = catalog.module(name)
    method = taught(catalog.build(name, 'cpu'))
    return home, method, home.Views(method.config)(inputs_of(name))


def taught(method):
    "The method with untrained teachers where it learns from some"
    if 'teachers' not in catalog.find(type(method).__module__.split('.')[2]).needs: return method
    with torch.random.fork_rng():
        return method.adopt([catalog.build('slotmim', 'cpu')], catalog.build('xlm', 'cpu'))


def seen(method, x):
    "What a method makes of pictures, or of sentences where it reads those alone"
    if hasattr(method, 'features'): return method.features(x)['pooled']
    return method.embed_texts(['A red star.', 'Un cercle bleu, en bas.'])


def step(method, views, t=.5):
    "Terms of one step with their gradients"
    method.train()
    method.before_step(t)
    out = method(views)
    terms = method.loss(out)
    sum(terms.values()).backward()
    return out, terms


@needs
def test_terms_are_finite_scalars(name):
    "Named scalar terms, and an embedding for the meter"
    _, method, views = build(name)
    out, terms = step(method, views)
    assert terms and all(v.ndim == 0 and math.isfinite(v.detach()) for v in terms.values())
    assert out['embedding'].shape[0] == 4 and out['embedding'].ndim == 2


@needs
def test_gradient_reaches_the_encoder_and_never_the_teacher(name):
    "Every weight of the encoder (or regressor) has one; a parameter called teacher has none and is in no group"
    _, method, views = build(name)
    step(method, views)
    grads = {n: p.grad for n, p in method.named_parameters()}
    assert all(g is None for n, g in grads.items() if 'teacher' in n)
    encoder = {n: g for n, g in grads.items() if 'encoder' in n or 'regressor' in n}
    encoder = {n: g for n, g in encoder.items() if 'teacher' not in n and not n.endswith('mask_token')}
    trained = {n for n, p in method.named_parameters() if p.requires_grad}
    assert encoder.keys() & trained
    still = [n for n, g in encoder.items() if n in trained and (g is None or not g.abs().sum() > 0)]
    assert still == []
    grouped = {id(p) for g in method.param_groups() for p in g['params']}
    names = {n for n, p in method.named_parameters() if id(p) in grouped}
    assert names and not [n for n in names if 'teacher' in n]
    assert names == {n for n, p in method.named_parameters() if p.requires_grad}


@needs
def test_teacher_follows(name):
    "After a step of the optimiser the teacher has moved, and only where there is one"
    _, method, views = build(name)
    before = {n: p.clone() for n, p in method.named_parameters() if 'teacher' in n}
    if not before: pytest.skip('this method has no teacher')
    step(method, views)
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None: p.sub_(.1 * p.grad.sign())
    method.after_step(.5)
    method.before_step(.5)
    assert any(not torch.equal(p, before[n]) for n, p in method.named_parameters() if n in before)


@needs
def test_seeded_repeat(name):
    "Same seeds, same views, same terms; another sample seed, other views"
    home, method, views = build(name)
    _, again, twin = build(name)
    assert all(torch.equal(views[k], twin[k]) for k in views if isinstance(views[k], torch.Tensor))
    first, second = step(method, views)[1], step(again, twin)[1]
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in second.items()}
    other = home.Views(method.config)(inputs_of(name, seed=1))
    key = 'x' if 'x' in views else 'ids'
    assert views[key].shape != other[key].shape or not torch.equal(views[key], other[key])


@needs
@pytest.mark.parametrize('preset', ['cpu', 'gpu', 'paper'])
def test_presets_construct(name, preset):
    "Each preset builds (without memory: on the meta device) and names its groups"
    with torch.device('meta'): method = catalog.build(name, preset)
    assert sum(p.numel() for p in method.parameters()) > 1e5
    assert method.param_groups()


@sees
def test_features(name):
    "tokens (B,N,D), grid, pooled (B,D), the same on every call"
    _, method, _ = build(name)
    method.eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(): out, again = method.features(x), method.features(x)
    assert out['tokens'].shape[:2] == (2, math.prod(out['grid'])) and out['pooled'].shape[0] == 2
    assert torch.equal(out['pooled'], again['pooled'])


@needs
def test_weights_travel(name, tmp_path):
    "Saved in half precision and loaded, the features are the same to half precision"
    _, method, _ = build(name)
    file = catalog.save_weights(method, tmp_path/'w.safetensors', card_of(name, method))
    loaded = catalog.load(file)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad(): a, b = seen(method.eval(), x), seen(loaded, x)
    assert not loaded.training and (a - b).norm() / a.norm() < 1e-2


def card_of(name, method):
    "A card that the schema accepts"
    score = {'name': 'knn', 'value': .5, 'protocol': 'k=20', 'baselines': {'random init': .3}}
    return dict(method=name, preset='cpu', config=dict(vars(method.config)), seed=0, steps=2, device='cpu',
                data=[dict(name='world', source='ssl_workbench.world', licence='Apache-2.0')], torch=torch.__version__,
                wall_seconds=1., commit='0', command='test', scores=[score], curve=dict(step=[0, 1], total=[2., 1.]))


def twins(method):
    "(teacher's, student's) tensors of the same name"
    state = method.state_dict()
    pairs = [(k, k.replace('teacher_', '').replace('teacher.', student)) for k in state if 'teacher' in k
             for student in ('student.', '')]
    return [(state[a], state[b]) for a, b in pairs if b in state and state[a].is_floating_point()]


@needs
def test_going_on_from_weights(name, tmp_path):
    "Loaded to be used or to be trained, a student is where its teacher is; a step from there leaves no twin behind"
    _, method, _ = build(name)
    if not twins(method): pytest.skip('this method has no teacher')
    with torch.no_grad():
        for p in method.parameters(): p.add_(.05 * torch.randn_like(p))
    file = catalog.save_weights(method, tmp_path/'w.safetensors', card_of(name, method))
    for train in (False, True):
        loaded = catalog.load(file, train=train)
        assert loaded.training == train and twins(loaded)
        assert all(torch.equal(a, b) for a, b in twins(loaded))


@needs
@pytest.mark.parametrize('wrong', [dict(batch=0), dict(batch=-4), dict(lr=0.), dict(lr=-1.), dict(steps=0),
                                   dict(size=0), dict(flip=7.), dict(scale=(2., 3.)), dict(scale=(.9, .1)),
                                   dict(temperature=-1.), dict(momentum=(2., 3.)), dict(depth=None), dict(depth=0),
                                   dict(depth=10**7), dict(dim=10**23), dict(prototypes=0), dict(prototypes=1)])
def test_settings_out_of_range(name, wrong):
    "Refused before anything is built, in one sentence"
    config = catalog.module(name).cpu
    if not hasattr(config, next(iter(wrong))): pytest.skip('no such setting')
    with pytest.raises(ValueError) as refusal: catalog.build(name, 'cpu', wrong)
    assert '\n' not in str(refusal.value) and next(iter(wrong)) in str(refusal.value)


def test_what_does_not_fit_together():
    "Patch and size, heads and channels, a batch that is compared with itself, too many parameters, no mask"
    for name, wrong, words in (('simclr', dict(size=70), 'multiple of the patch'), ('simclr', dict(batch=1), 'needs 2'),
                               ('mae', dict(decoder_heads=5), 'cannot share'), ('byol', dict(batch=1), 'needs 2'),
                               ('slotmim', dict(mask_ratio=(0., 0.)), 'no patch is masked'),
                               ('slotmim', dict(dim=65_536, heads=4, depth=200), 'parameters')):
        with pytest.raises(ValueError, match=words): catalog.build(name, 'cpu', wrong)


# ---- bundled weights

BUNDLED = sorted(p.stem for p in catalog.core.weights_dir().glob('*.safetensors'))


@pytest.mark.parametrize('name', BUNDLED)
def test_bundled_weights_load(name):
    "Card complete, fingerprint right, finite features that differ from picture to picture"
    card = catalog.card(name)
    method = catalog.load(name)
    size = method.config.size
    long = 'backbone' in catalog.find(card['method']).needs          # of a video it reads what changes
    drawn = world.batch(torch.arange(4), device='cpu', kind='chain' if long else 'scene', level=1, size=(size, size),
                        frames=24 if long else 1)
    with torch.no_grad():
        if long: pooled = method.features(drawn['frames'] / 255)['pooled']
        elif card['method'] in SEE: pooled = method.features(drawn['frames'][:, 0] / 255)['pooled']
        else: pooled = method.embed_texts([c['en'] for c in drawn['caption']])
    assert pooled.isfinite().all() and pooled.std(0).mean() > 1e-3
    assert card['scores'] and all(s['baselines'] for s in card['scores'])


def test_bundled_scores_of_which_less_is_better():
    "Errors, distances and the share that one slot takes say so; all others say nothing, as rows of old cards do"
    lower = {n: [s['name'] for s in catalog.card(n).get('scores', []) if catalog.less_is_better(s)] for n in BUNDLED}
    kinds = ["end-point error / zero flow's", 'end-point error', 'end-point error, seen', 'end-point error, occluded']
    drawn = [f'{kind}, level-3 {what}' for what in ('scenes', 'drives') for kind in kinds]
    assert {n: names for n, names in lower.items() if names} == {
        'mcjepa': [*drawn, 'end-point error, FlyingChairs', 'photometric error / unwarped, clip_alley'],
        'mcjepa-real': drawn,
        'river': ['Fréchet video distance, mcjepa'], 'slotmim-real': ['one slot over 75 %, photographs']}


@pytest.mark.parametrize('name', BUNDLED)
def test_bundled_score_comes_back(name):
    "One figure of the card, made again from the shipped file"
    card = catalog.card(name)
    _, home = recipe_of(name)
    what, then, now = home.recheck(catalog.load(name), card)
    assert now == pytest.approx(then, abs=5e-3), what


@pytest.mark.parametrize('name', BUNDLED)
def test_bundled_weights_are_small(name):
    "At most 4 MB a file"
    assert (catalog.core.weights_dir()/f'{name}.safetensors').stat().st_size <= 4e6

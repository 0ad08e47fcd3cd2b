"""PooDLe on a flow that is learnt with it: one encoder, MC-JEPA's motion losses and PooDLe's in one run."""
from dataclasses import replace

import pytest
import torch

from benchmarks.claims import poodle as claims
from ssl_workbench import catalog, world
from ssl_workbench.methods import mcjepa, poodle
from ssl_workbench.training import learner_of, training_data

TINY = dict(size=32, canvas=48, channels=(8, 8, 12, 16), hidden=16, out_dim=8, subcrops=2, sub_size=16, batch=4,
            steps=4)
JOINT = replace(poodle.cpu, flow='joint', motion=(('filters', (8, 8)), ('inputs', 8), ('radius', 2)), **TINY)
TRUE = replace(JOINT, flow='truth')


def pairs(n=4, plain=False):
    made = world.batch(range(n), kind='drive', level=1, size=(48, 48), frames=2, plain=plain)
    return dict(frames=made['frames'], flow=made['flow'], flow_back=made['flow_back'], seed=torch.arange(n),
                aspect=torch.ones(n))


def test_with_the_true_flow_in_place_of_the_learnt_one_the_losses_are_those_of_a_run_on_truth(monkeypatch):
    batch = pairs()
    torch.manual_seed(0); joint = catalog.build('poodle', JOINT)
    known = poodle.PooDLe(TRUE)
    known.load_state_dict({k: v for k, v in joint.state_dict().items() if not k.startswith('motion.')})
    views = poodle.Views(TRUE)(batch)
    monkeypatch.setattr(joint, '_motion_of', lambda pair: dict(flow=views['flow'].transpose(0, 1).flatten(0, 1)))
    monkeypatch.setattr(joint.motion, 'motion_terms', lambda out: {})
    ours, theirs = joint.loss(joint(poodle.Views(JOINT)(batch))), known.loss(known(views))
    assert ours.keys() == theirs.keys() == {'dense', 'pooled'}
    for name in ours: assert torch.equal(ours[name], theirs[name]), name


def test_one_encoder_is_moved_by_both_and_the_estimator_by_its_own_losses_alone():
    joint = catalog.build('poodle', JOINT).train()
    out = joint(poodle.Views(JOINT)(pairs()))
    terms = joint.loss(out)
    flow = [v for k, v in terms.items() if k.startswith('flow ')]
    assert len(flow) == 6 and all(torch.isfinite(v) for v in terms.values())
    encoder, estimator = list(joint.student.encoder.parameters()), list(joint.motion.parameters())
    grad = lambda loss, some: torch.autograd.grad(loss, some, retain_graph=True, allow_unused=True)
    reached = lambda found: any(g is not None and g.abs().sum() > 0 for g in found)
    own = terms['dense'] + terms['pooled']
    assert reached(grad(own, encoder)) and reached(grad(sum(flow), encoder)) and reached(grad(sum(flow), estimator))
    assert not reached(grad(own, estimator))
    twice = replace(JOINT, motion_weight=2.)
    doubled = catalog.build('poodle', twice)
    doubled.load_state_dict(joint.state_dict())
    for k, v in doubled.loss(out).items(): torch.testing.assert_close(v, terms[k] * (2 if 'flow ' in k else 1))


def test_the_estimators_losses_are_mcjepas():
    "The same maps through `Motion` and through an MC-JEPA that holds the same estimator"
    config = replace(mcjepa.cpu, levels=2, filters=(8, 8), inputs=8, radius=2, content=False)
    whole = mcjepa.MCJEPA(config)
    part = mcjepa.Motion(config, whole.encoder.dims)
    part.flownet.load_state_dict(whole.flownet.state_dict())
    x = pairs()['frames'].float() / 255
    out = whole.motion(x)
    terms, wanted = part.motion_terms(part.estimate(out['frames'], out['levels'])), whole.loss(out)
    assert terms.keys() == wanted.keys()
    for name in terms: assert torch.equal(terms[name], wanted[name]), name


def test_a_run_is_trained_stored_and_gone_on_with(tmp_path):
    data = training_data('world:drive:0', catalog.find('poodle'), replace(JOINT, pictures=8))
    run = lambda out: learner_of('poodle', JOINT, data, out=out, device='cpu', progress=False)
    whole = [s.terms for s in run(tmp_path/'a').steps()]
    half = run(tmp_path/'b')
    first = [s.terms for s in half.steps(2)]
    half.save()
    assert first + [s.terms for s in run(tmp_path/'b').load().steps()] == whole
    method = catalog.load(tmp_path/'b')
    a, b = (pairs()['frames'][:, k].float() / 255 for k in (0, 1))
    assert method.estimate_flow(a, b).shape == (4, 2, 48, 48)
    rates = {g.get('lr_scale', 1.) for g in method.param_groups()}
    assert rates == {1., mcjepa.cpu.flow_lr} or mcjepa.cpu.flow_lr == 1.


def test_the_claim_has_its_four_arms():
    assert [a.get('flow') for a in claims.joint.arms.values()] == ['joint', 'mcjepa', 'dis', 'truth']
    data = claims.training_pairs(replace(JOINT, kind='drive', level=0), claims.Protocol(pool=3, flow='joint'))
    assert 'flow' not in data[0] and len(data) == 3


def test_without_an_estimator_it_is_one_sentence():
    alone = poodle.PooDLe(JOINT)
    with pytest.raises(ValueError, match='needs an estimator'): alone(poodle.Views(JOINT)(pairs()))
    with pytest.raises(ValueError, match='flow of its own'): poodle.PooDLe(TRUE).estimate_flow(None, None)

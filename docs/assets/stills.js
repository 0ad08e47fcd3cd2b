// Moments of touch: a picture with `data-still` becomes the widget that plays the states beside it, once it is near.
import {still} from './touch.js'

const NOTE = 'A few settings, computed before. In the notebook every setting is free.'

function addressed(show, base) {
  const made = {...show}, address = name => new URL(name, base).href
  if (made.picture) made.picture = address(made.picture)
  if (made.layers) made.layers = made.layers.map(l => ({...l, src: address(l.src)}))
  return made
}

async function play(img) {
  const base = new URL(img.dataset.still, img.src), answer = await fetch(base)
  if (!answer.ok) return                                   // the picture stays
  const state = addressed(await answer.json(), base)
  state.states = state.states.map(s => ({...s, show: addressed(s.show, base)}))
  const box = document.createElement('div'), note = document.createElement('p')
  box.className = 'still'
  box.dataset.moment = img.dataset.still.replace('.json', '')
  note.className = 'still-note'
  note.textContent = NOTE
  const alone = img.parentElement.tagName === 'P' && img.parentElement.children.length === 1
  ;(alone ? img.parentElement : img).replaceWith(box)
  still(box, state)
  box.append(note)
  const ahead = () => state.states.forEach(({show}) => {
    for (const src of [show.picture, ...(show.layers || []).map(l => l.src)]) if (src) new Image().src = src
  })
  for (const name of ['pointerenter', 'focusin']) box.addEventListener(name, ahead, {once: true})
}

const near = new IntersectionObserver(seen => {
  for (const {isIntersecting, target} of seen) if (isIntersecting) { near.unobserve(target); play(target) }
}, {rootMargin: '600px'})
document.querySelectorAll('img[data-still]').forEach(img => near.observe(img))

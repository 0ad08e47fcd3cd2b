// A picture that can be touched: places moved by pointer and by keyboard, overlays, the value under the pointer, and
// a guess before the answer. All state is in `model` (get, set, on, off, save_changes): anywidget's in a notebook,
// the plain object of `still` on a page without a kernel. Nothing is loaded from anywhere.

const SVG = 'http://www.w3.org/2000/svg'
const CORNERS = {point: [[0, 1]], arrow: [[0, 1], [2, 3]], box: [[0, 1], [2, 3]]}
const PARTS = {point: [''], arrow: ['start of ', 'end of '], box: ['one corner of ', 'other corner of ']}
const MANY = 30                                          // dots that a still page shows at most
const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}

const within = x => Math.min(1, Math.max(0, x))
const percent = x => `${Math.round(100 * x)} %`
const short = x => typeof x !== 'number' ? String(x) : Number.isInteger(x) ? String(x) : x.toPrecision(3)

function make(tag, name, parent, text) {
  const element = document.createElement(tag)
  if (name) element.className = name
  if (text !== undefined) element.textContent = text
  if (parent) parent.append(element)
  return element
}

function line(parent, name, points) {
  const element = document.createElementNS(SVG, 'polyline')
  element.setAttribute('class', name)
  element.setAttribute('points', points.map(p => p.join(',')).join(' '))
  parent.append(element)
}

// ---- the picture, its overlays, what stands under the pointer

function hidden(model) { return Boolean(model.get('question')) && !model.get('revealed') }

function drawLayers(model, stack) {
  const shown = hidden(model) ? [] : model.get('shown')
  const wanted = model.get('layers').filter(l => shown.includes(l.name))
  while (stack.children.length > wanted.length) stack.lastChild.remove()
  while (stack.children.length < wanted.length) make('img', 'touch-layer', stack).alt = ''
  wanted.forEach((l, k) => { if (stack.children[k].src !== l.src) stack.children[k].src = l.src })
}

function drawToggles(model, box) {
  box.replaceChildren()
  if (hidden(model)) return
  for (const {name} of model.get('layers')) {
    const label = make('label', '', box), tick = make('input', '', label)
    tick.type = 'checkbox'
    tick.checked = model.get('shown').includes(name)
    label.append(name)
    tick.onchange = () => {
      const rest = model.get('shown').filter(n => n !== name)
      keep(model, {shown: tick.checked ? [...rest, name] : rest})
    }
  }
}

function valuesAt(model, x, y) {
  if (hidden(model)) return []
  return model.get('values').map(v => {
    const row = Math.min(v.rows - 1, Math.floor(y * v.rows)), column = Math.min(v.columns - 1, Math.floor(x * v.columns))
    const value = v.data[row * v.columns + column]
    const text = v.names && v.names[value] !== undefined ? v.names[value] : value === null ? '–' : short(value)
    return `${v.name} ${text}${v.unit ? ' ' + v.unit : ''}`
  })
}

function drawBars(model, box) {
  const bars = hidden(model) ? [] : model.get('bars')
  box.replaceChildren()
  for (const {name, value, low = 0, high = 1} of bars) {
    make('span', '', box, name)
    const track = make('div', 'touch-track', box), bar = make('div', 'touch-bar', track)
    bar.style.width = `${100 * within((value - low) / (high - low || 1))}%`
    make('output', '', box, short(value))
  }
}

// ---- places

function keep(model, changes) {
  for (const [name, value] of Object.entries(changes)) model.set(name, value)
  model.save_changes()
}

function snapped(model, kind, part, x, y) {
  const [rows, columns] = model.get('grid')
  if (!rows || (kind === 'arrow' && part === 1)) return [within(x), within(y)]
  const to = (p, n) => (Math.min(n - 1, Math.floor(within(p) * n)) + .5) / n
  const edge = (p, n) => Math.round(within(p) * n) / n
  return kind === 'box' ? [edge(x, columns), edge(y, rows)] : [to(x, columns), to(y, rows)]
}

function moved(model, name, part, x, y) {
  const kind = model.get('kinds')[name], value = [...model.get('places')[name]]
  const [a, b] = CORNERS[kind][part];
  [value[a], value[b]] = snapped(model, kind, part, x, y)
  return {...model.get('places'), [name]: value}
}

function outline(kind, v) {
  if (kind === 'box') return [[v[0], v[1]], [v[2], v[1]], [v[2], v[3]], [v[0], v[3]], [v[0], v[1]]]
  return kind === 'arrow' ? [[v[0], v[1]], [v[2], v[3]]] : []
}

function drawMarks(model, svg) {
  svg.replaceChildren()
  const [rows, columns] = model.get('grid')
  for (let k = 1; k < rows; k++) line(svg, 'touch-grid', [[0, k / rows], [1, k / rows]])
  for (let k = 1; k < columns; k++) line(svg, 'touch-grid', [[k / columns, 0], [k / columns, 1]])
  for (const [name, v] of Object.entries(model.get('places'))) {
    const kind = model.get('kinds')[name], path = outline(kind, v), spots = (model.spots || {})[name] || []
    if (spots.length <= MANY) for (const spot of spots) {
      line(svg, kind === 'point' ? 'touch-spot' : 'touch-ghost', kind === 'point' ? [spot, spot] : outline(kind, spot))
    }
    for (const side of ['touch-under', 'touch-over']) if (path.length) line(svg, side, path)
  }
}

function handlesOf(model) {
  return Object.entries(model.get('kinds')).flatMap(([name, kind]) => CORNERS[kind].map((_, part) => ({name, kind, part})))
}

function drawHandles(model, handles) {
  for (const {button, name, kind, part} of handles) {
    const value = model.get('places')[name]
    if (!value) continue
    const [x, y] = CORNERS[kind][part].map(k => value[k])
    button.style.left = `${100 * x}%`
    button.style.top = `${100 * y}%`
    const title = `${PARTS[kind][part]}${model.get('titles')[name] || name}`
    if (kind === 'arrow' && part === 1) {
      const [w, h] = [button.parentElement.clientWidth, button.parentElement.clientHeight]
      button.style.rotate = `${Math.atan2((value[3] - value[1]) * h, (value[2] - value[0]) * w)}rad`
    }
    button.setAttribute('aria-label', `${title}: ${percent(x)} from the left, ${percent(y)} from the top`)
  }
}

// Pointer and keyboard both end in `go(handle, x, y, done)`; on a still page keys go from one computed place to the next
function listen(model, frame, handles, go) {
  let held = null
  const place = event => {
    const r = frame.getBoundingClientRect()
    return [within((event.clientX - r.left) / r.width), within((event.clientY - r.top) / r.height)]
  }
  const nearest = (x, y) => {
    const r = frame.getBoundingClientRect()
    const far = h => {
      const v = model.get('places')[h.name], [a, b] = CORNERS[h.kind][h.part]
      return Math.hypot((v[a] - x) * r.width, (v[b] - y) * r.height)
    }
    return handles.map(h => [far(h), h]).sort((a, b) => a[0] - b[0])[0]
  }
  frame.addEventListener('pointerdown', event => {
    if (event.button || !handles.length) return
    const [x, y] = place(event), [far, near] = nearest(x, y)
    const active = handles.find(h => h.button === frame.getRootNode().activeElement) || near
    const asked = hidden(model) && handles.find(h => h.name === model.get('guess_place'))
    held = far < 18 ? near : asked || active            // a place is asked for: a click is the guess
    event.preventDefault()
    frame.setPointerCapture(event.pointerId)
    if (far >= 18 && held.kind !== 'point') {           // a new arrow or box begins here
      const pair = handles.filter(h => h.name === held.name)
      go(pair[0], x, y, false)
      held = pair[1]
    }
    held.button.focus({preventScroll: true})
    if (far >= 18 || held.kind === 'point') go(held, x, y, false)
  })
  frame.addEventListener('pointermove', event => { if (held) go(held, ...place(event), false) })
  for (const name of ['pointerup', 'pointercancel']) frame.addEventListener(name, event => {
    if (held) go(held, ...place(event), true)
    held = null
  })
  for (const handle of handles) handle.button.addEventListener('keydown', event => {
    const step = STEPS[event.key]
    if (!step) return
    event.preventDefault()
    event.stopPropagation()                             // the notebook would change the cell
    if (model.next) return go(handle, 0, 0, true, model.next(handle, step))
    const [rows, columns] = model.get('grid'), many = event.shiftKey ? 5 : 1
    const free = !rows || (handle.kind === 'arrow' && handle.part === 1)
    const v = model.get('places')[handle.name], [a, b] = CORNERS[handle.kind][handle.part]
    go(handle, v[a] + many * step[0] * (free ? .02 : 1 / columns), v[b] + many * step[1] * (free ? .02 : 1 / rows), true)
  })
}

// ---- a guess, then the answer

function drawQuestion(model, box) {
  box.replaceChildren()
  const question = model.get('question')
  box.hidden = !question
  if (!question) return
  make('legend', '', box, question)
  const open = hidden(model)
  for (const choice of model.get('choices')) {
    const label = make('label', '', box), dot = make('input', '', label)
    Object.assign(dot, {type: 'radio', name: box.dataset.group, checked: model.get('guess') === choice, disabled: !open})
    label.append(choice)
    dot.onchange = () => keep(model, {guess: choice})
  }
  const button = make('button', 'touch-reveal', box, open ? 'Reveal' : 'Guess again')
  button.type = 'button'
  button.disabled = open && !model.get('guess')
  button.onclick = () => {
    keep(model, open ? {revealed: true} : {revealed: false, guess: ''})
    box.querySelector('button').focus()
  }
  if (!open && model.get('answer')) make('p', 'touch-answer', box, model.get('answer'))
}

// ---- knobs of still pages: where there is a kernel they are ipywidgets

function control(options, value, label) {
  const words = typeof options[0] === 'string', ticked = typeof options[0] === 'boolean'
  const input = make(words ? 'select' : 'input', '', label)
  if (ticked) {
    Object.assign(input, {type: 'checkbox', checked: value})
    return [input, () => input.checked]
  }
  if (words) for (const option of options) make('option', '', input, option)
  else Object.assign(input, {type: 'range', min: 0, max: options.length - 1, step: 1})
  input[words ? 'selectedIndex' : 'value'] = options.indexOf(value)
  return [input, () => options[words ? input.selectedIndex : Number(input.value)]]
}

function drawKnobs(model, box) {
  box.replaceChildren()
  for (const {name, title, options} of model.get('knobs')) {
    const label = make('label', '', box, title || name), [input, read] = control(options, model.get('settings')[name], label)
    const said = input.type === 'range' ? make('output', '', label) : null
    const say = () => {
      if (!said) return
      said.textContent = short(read())
      input.setAttribute('aria-valuetext', said.textContent)
    }
    say()
    input.oninput = () => {
      say()
      keep(model, {settings: {...model.get('settings'), [name]: read()}})
    }
  }
}

function drawPicture(model, img, frame) {
  if (img.getAttribute('src') !== model.get('picture')) img.src = model.get('picture')
  img.alt = model.get('label')
  frame.setAttribute('aria-label', model.get('label'))
}

function fit(model, img, frame) {
  if (!img.naturalWidth) return
  const shape = img.naturalWidth / img.naturalHeight
  frame.style.aspectRatio = String(shape)
  frame.parentElement.style.width = `min(100%, calc(${shape} * min(62vh, ${model.get('max_height')}px)))`
  frame.classList.toggle('touch-pixels', img.naturalHeight * 2 <= model.get('max_height'))
}

function render({model, el}) {
  const root = make('div', 'touch', el), main = make('div', 'touch-main', root), side = make('div', 'touch-side', root)
  const frame = make('div', 'touch-frame', main), img = make('img', 'touch-picture', frame)
  const stack = make('div', 'touch-stack', frame), svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('viewBox', '0 0 1 1')
  svg.setAttribute('preserveAspectRatio', 'none')
  svg.setAttribute('aria-hidden', 'true')
  frame.append(svg)
  frame.setAttribute('role', 'group')
  img.draggable = false
  const readout = make('div', 'touch-readout', main), knobs = make('div', 'touch-knobs', side)
  const question = make('fieldset', 'touch-question', side), toggles = make('div', 'touch-toggles', side)
  const caption = make('p', 'touch-caption', side), bars = make('div', 'touch-bars', side)
  question.dataset.group = `touch-${Math.random().toString(36).slice(2)}`      // each widget runs its own copy of this file
  caption.setAttribute('aria-live', 'polite')
  const handles = handlesOf(model).map(h => ({...h, button: make('button', `touch-handle touch-${h.kind}${h.part}`, frame)}))
  for (const {button} of handles) {
    button.type = 'button'
    button.setAttribute('aria-keyshortcuts', 'ArrowLeft ArrowRight ArrowUp ArrowDown')
  }
  let last = 0, timer = 0
  const send = () => { clearTimeout(timer); last = Date.now(); model.save_changes() }
  const go = (handle, x, y, done, whole) => {
    const places = whole && {...model.get('places'), [handle.name]: whole}
    const changes = {places: places || moved(model, handle.name, handle.part, x, y)}
    if (model.get('question')) {
      if (model.get('guess_place') === handle.name) { if (hidden(model)) changes.guess = 'placed' }
      else if (model.get('revealed')) Object.assign(changes, {revealed: false, guess: ''})
    }
    for (const [name, value] of Object.entries(changes)) model.set(name, value)
    if (done) { model.set('released', model.get('released') + 1); send() }
    else if (model.get('while_dragging') && Date.now() - last > 60) send()
    else if (model.get('while_dragging')) { clearTimeout(timer); timer = setTimeout(send, 60) }
  }
  listen(model, frame, handles, go)
  const say = (x, y) => {
    readout.textContent = x === null ? model.get('hint') : [`x ${percent(x)}, y ${percent(y)}`, ...valuesAt(model, x, y)].join(' · ')
  }
  frame.addEventListener('pointermove', event => {
    const r = frame.getBoundingClientRect()
    say(within((event.clientX - r.left) / r.width), within((event.clientY - r.top) / r.height))
  })
  frame.addEventListener('pointerleave', () => say(null))
  const marks = () => { drawMarks(model, svg); drawHandles(model, handles) }
  const under = () => {
    const focused = handles.find(h => h.button === frame.getRootNode().activeElement)
    if (!focused || frame.matches(':hover')) return
    const v = model.get('places')[focused.name]
    say(...CORNERS[focused.kind][focused.part].map(k => v[k]))
  }
  const overlays = () => { drawLayers(model, stack); drawToggles(model, toggles) }
  const words = () => { caption.textContent = hidden(model) ? '' : model.get('caption') }
  const ask = () => { drawQuestion(model, question); overlays(); words(); drawBars(model, bars) }
  const watch = {
    picture: () => drawPicture(model, img, frame), label: () => drawPicture(model, img, frame), shown: () => drawLayers(model, stack),
    layers: overlays, places: () => { marks(); under() }, grid: marks, caption: words, bars: () => drawBars(model, bars),
    question: ask, revealed: ask, guess: () => drawQuestion(model, question), choices: ask,
    answer: () => drawQuestion(model, question), hint: () => say(null), max_height: () => fit(model, img, frame),
  }
  for (const [name, draw] of Object.entries(watch)) model.on(`change:${name}`, draw)
  img.onload = () => { fit(model, img, frame); marks(); root.dataset.drawn = String(Number(root.dataset.drawn || 0) + 1) }
  drawPicture(model, img, frame); marks(); drawKnobs(model, knobs); ask(); say(null)
  return () => { for (const [name, draw] of Object.entries(watch)) model.off(`change:${name}`, draw) }
}

export default {render}

// ---- without a kernel: the nearest of the precomputed states is shown

function distance(at, model) {
  let sum = 0
  for (const [name, value] of Object.entries(at)) {
    const place = model.get('places')[name], setting = model.get('settings')[name]
    if (place) value.forEach((v, k) => { sum += (v - place[k]) ** 2 })
    else sum += setting === value ? 0 : 1e6
  }
  return sum
}

function spotsOf(state) {
  const spots = {}
  for (const {at} of state.states) for (const [name, value] of Object.entries(at)) {
    if (!state.places[name]) continue
    spots[name] = spots[name] || []
    if (!spots[name].some(v => String(v) === String(value))) spots[name].push(value)
  }
  return spots
}

export function still(el, state) {
  const heard = {}, spots = spotsOf(state)
  const model = {
    get: name => state[name],
    set: (name, value) => { state[name] = value; (heard[name] || []).forEach(f => f()) },
    on: (event, f) => { const name = event.slice(7); (heard[name] = heard[name] || []).push(f) },
    off: () => {}, save_changes: () => {}, spots,
  }
  if (Object.keys(spots).length) model.next = ({name, kind, part}, [dx, dy]) => {
    const now = state.places[name], [a, b] = CORNERS[kind][part]
    const far = v => {
      const [x, y] = [v[a] - now[a], v[b] - now[b]], along = x * dx + y * dy
      return along > 1e-6 ? along + 3 * Math.abs(x * dy + y * dx) : Infinity
    }
    const best = (spots[name] || []).reduce((p, q) => far(q) < far(p) ? q : p, now)
    return far(best) < Infinity ? best : now
  }
  let now = null
  const play = () => {
    const best = state.states.reduce((a, b) => distance(b.at, model) < distance(a.at, model) ? b : a, state.states[0])
    if (!best || best === now) return
    now = best
    for (const [name, value] of Object.entries(best.show)) model.set(name, value)
  }
  const snap = () => {                                     // let go, a mark moves to the place that was computed
    const found = Object.entries(now ? now.at : {}).filter(([name]) => state.places[name])
    if (found.length) model.set('places', {...state.places, ...Object.fromEntries(found)})
  }
  model.on('change:places', play)
  model.on('change:settings', play)
  model.on('change:released', snap)
  play()
  render({model, el})
}

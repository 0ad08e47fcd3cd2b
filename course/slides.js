window.MathJax = {
  tex: {inlineMath: [['$', '$'], ['\\(', '\\)']], processEscapes: true, packages: {'[-]': ['require', 'autoload']}},
  svg: {fontCache: 'local'},
  options: {enableMenu: false},
}
const pages = [...document.querySelectorAll('section')]
const at = () => Math.min(pages.length, Math.max(1, Number(location.hash.slice(1)) || 1))
function show() {
  pages.forEach((p, k) => p.classList.toggle('now', k === at() - 1))
  document.getElementById('at').textContent = `${at()} / ${pages.length}`
}
const go = step => { location.hash = String(Math.min(pages.length, Math.max(1, at() + step))) }
document.getElementById('back').onclick = () => go(-1)
document.getElementById('on').onclick = () => go(1)
addEventListener('hashchange', show)
addEventListener('keydown', event => {
  if (['ArrowRight', 'PageDown', ' '].includes(event.key)) go(1)
  if (['ArrowLeft', 'PageUp'].includes(event.key)) go(-1)
  if (event.key === 'Home') go(-pages.length)
  if (event.key === 'End') go(pages.length)
})
show()

window.MathJax = {
  tex: {
    inlineMath: [["\\(", "\\)"]],
    displayMath: [["\\[", "\\]"]],
    processEscapes: true,
    packages: {"[-]": ["require", "autoload"]}
  },
  svg: {fontCache: "local"},
  startup: {elements: [".arithmatex"]},
  options: {enableMenu: false}
};

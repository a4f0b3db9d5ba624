// The viewer has no colour scheme of its own that follows the system's.
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.querySelector("rapi-doc").setAttribute("theme", dark.matches ? "dark" : "light");
dark.addEventListener("change", paint);
paint();

// Two corrections of the viewer's own style: it moves the licence out of the column, and a heading to the right.
customElements.whenDefined("rapi-doc").then(() => {
  const style = new CSSStyleSheet();
  style.replaceSync("#api-info { margin-left: 0 } #api-info span:first-child::before { display: none } .nav-bar-section { justify-content: flex-start }");
  document.querySelector("rapi-doc").shadowRoot.adoptedStyleSheets.push(style);
});

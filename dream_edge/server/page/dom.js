// What every part of the page does with the document.

export function byId(id) { return document.getElementById(id); }

export function element(name, className = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  return made;
}

// To those who do not see the page.
export function announce(text) { byId("said").textContent = text; }

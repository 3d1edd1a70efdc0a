// Elements are made with text alone: what an event holds is never parsed as HTML.

export function make(tag, className = "", text = null, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== null) element.textContent = text;
  element.append(...children);
  return element;
}

// A sentence with a command in it: hint("no events yet: run ", "eventstorm emit …").
export function hint(before, command, after = "") {
  const element = make("p", "empty", before);
  element.append(make("code", "", command), after);
  return element;
}

export const byId = (id) => document.getElementById(id);

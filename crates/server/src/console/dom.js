// Elements, and patching what is shown into what should be.
//
// Text only ever becomes text nodes and attributes: what the cluster says is foreign input.
// Sections are drawn anew every second and patched in place, so that focus, opened details and a
// screen reader's place stay where they are.

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name === "key" ? "data-key" : name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
  return node;
}

/** An HTML element: h("p", {class: "x"}, "text", child, [more]). */
export function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

let drawings = 0;

/** An SVG picture with a name, and words for those who do not see it. */
export function picture(title, words, attributes, ...children) {
  drawings += 1;
  const id = `pic-${attributes.key ?? drawings}`.replace(/[^\w-]/g, "_");
  return s("svg", { role: "img", "aria-labelledby": `${id}-t ${id}-d`, ...attributes },
    s("title", { id: `${id}-t` }, title), s("desc", { id: `${id}-d` }, words), ...children);
}

/**
 * A table whose first column names the row; cells are text or nodes. Its roles are spelt out: on a
 * phone rows become blocks, which would take them away.
 */
export function table(caption, columns, rows, attributes = {}) {
  const kind = (at) => [columns[at]?.number ? "number" : "", columns[at]?.class ?? ""].join(" ").trim() || null;
  const cell = (value, at) => at === 0
    ? h("th", { scope: "row", role: "rowheader", class: kind(at) }, value)
    : h("td", { role: "cell", class: kind(at), "data-label": columns[at]?.name }, value);
  const name = (column, at) => column.name
    ? h("th", { scope: "col", role: "columnheader", class: kind(at) }, column.head ?? column.name)
    : h("td", { role: "cell" });
  return h("table", { role: "table", ...attributes },
    h("caption", { class: "hidden" }, caption),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(name))),
    h("tbody", { role: "rowgroup" }, rows.map((row) =>
      h("tr", { role: "row", key: row.key, class: row.class }, row.cells.map(cell)))));
}

function isSame(old, next) {
  return old.nodeType === next.nodeType && old.nodeName === next.nodeName &&
    (old.dataset?.key ?? null) === (next.dataset?.key ?? null);
}

function patchOne(old, next) {
  if (old.isEqualNode(next)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = next.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Whether details are open is the reader's business.
    if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  patch(old, [...next.childNodes]);
}

/** What has the focus keeps it when its place in a list changes. */
function move(parent, node, before) {
  const focused = document.activeElement;
  parent.insertBefore(node, before);
  if (node.contains(focused)) focused.focus({ preventScroll: true });
}

/** Makes `parent` hold `nodes` (or texts), keeping every element that it already has. */
export function patch(parent, nodes) {
  const keyed = new Map();
  for (const child of parent.childNodes) {
    if (child.dataset?.key !== undefined) keyed.set(child.dataset.key, child);
  }
  const kept = new Set();
  let at = parent.firstChild;
  for (const wanted of nodes) {
    const next = wanted instanceof Node ? wanted : document.createTextNode(wanted);
    while (at && kept.has(at)) at = at.nextSibling;
    const key = next.dataset?.key;
    const old = key === undefined ? at : keyed.get(key);
    if (old && !kept.has(old) && isSame(old, next)) {
      kept.add(old);
      if (old === at) at = at.nextSibling;
      else move(parent, old, at);
      patchOne(old, next);
    } else {
      parent.insertBefore(next, at);
      kept.add(next);
    }
  }
  for (const child of [...parent.childNodes]) {
    if (!kept.has(child)) child.remove();
  }
}

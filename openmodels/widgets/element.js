// Return a new element with properties and attributes, as the last child of a parent if there is one.
export function element(tag, properties = {}, parent = null, attributes = {}) {
  const node = Object.assign(document.createElement(tag), properties);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (parent) parent.append(node);
  return node;
}

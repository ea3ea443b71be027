// JSON, folded: an object's or array's members are made when it is opened.

import { h } from './dom.js';
import { count } from './format.js';

const many = 500; // members that are shown at once

export function tree(value) {
  return h('div', { class: 'json' }, node(null, value, true));
}

function node(name, value, open = false) {
  const label = name === null ? null : h('span', { class: 'json-key' }, `${name}: `);
  if (value === null || typeof value !== 'object') {
    return h('div', { class: 'json-leaf' }, label, h('span', { class: `json-${value === null ? 'null' : typeof value}` }, JSON.stringify(value)));
  }
  const list = Array.isArray(value);
  const entries = list ? value.map((v, i) => [i, v]) : Object.entries(value);
  const details = h('details', { open }, h('summary', {}, label, h('span', { class: 'soft' }, list ? `[ ${count(entries.length, 'item')} ]` : `{ ${count(entries.length, 'member')} }`)));
  let made = 0;
  const more = h('button', { type: 'button', class: 'plain small', click: () => fill() });
  const fill = () => {
    more.remove();
    details.append(...entries.slice(made, made + many).map(([k, v]) => node(k, v, entries.length === 1)));
    made = Math.min(made + many, entries.length);
    if (made < entries.length) {
      more.textContent = `Show more (${(entries.length - made).toLocaleString()})`;
      details.append(more);
    }
  };
  if (open) fill();
  details.addEventListener('toggle', () => { if (details.open && !made) fill(); });
  return details;
}

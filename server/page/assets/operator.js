// The operator's view: how the server stands, who did what, who is who, and
// looking after it.

import { h, clear } from './dom.js';
import { overview } from './overview.js';
import { audit } from './audit.js';
import { people } from './people.js';
import { upkeep } from './upkeep.js';

const parts = [
  ['', 'Overview', overview],
  ['audit', 'Audit log', audit],
  ['people', 'People', people],
  ['upkeep', 'Maintenance', upkeep],
];

export function operatorView(app) {
  document.title = 'Operator · attachd';
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'Operator' }, parts.map(([path, label]) => h('a', { href: `#/operator${path && `/${path}`}` }, label)));
  const body = h('div', {});
  let stop = null;
  let at = null;
  return {
    el: h('div', { class: 'page wide' }, h('h1', {}, 'Operator'), tabs, body),
    update(route, params) {
      const part = parts.find(([path]) => path === (route[1] ?? '')) ?? parts[0];
      [...tabs.children].forEach((a, i) => (parts[i] === part ? a.setAttribute('aria-current', 'page') : a.removeAttribute('aria-current')));
      const here = `${part[0]}/${route[2] ?? ''}`;
      if (here === at) return;
      at = here;
      stop?.abort();
      stop = new AbortController();
      clear(body, part[2]({ app, route, params, signal: stop.signal }));
    },
    close() { stop?.abort(); },
  };
}

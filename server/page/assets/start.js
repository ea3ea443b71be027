// What a superadmin does first: spaces, products and people come by the API.

import { h, button, say } from './dom.js';
import * as api from './api.js';

// newId makes a UUID; crypto.randomUUID is there on secure origins only.
export function newId() {
  const raw = crypto.getRandomValues(new Uint8Array(16));
  raw[6] = raw[6] & 0x0f | 0x40;
  raw[8] = raw[8] & 0x3f | 0x80;
  return [...raw].map((b) => b.toString(16).padStart(2, '0')).join('').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

const bring = (...objects) => [`curl -H "Authorization: Bearer $ATTACHD_KEY" -H 'Content-Type: application/x-ndjson' --data-binary @- '${api.at('/directory/import')}' <<'END'`,
  ...objects.map((o) => JSON.stringify(o)), 'END'].join('\n');

function command(text) {
  return h('div', { class: 'command' }, h('pre', { tabindex: '0', 'aria-label': 'Command' }, text),
    button('Copy', { class: 'plain', 'aria-label': 'Copy the command', click: async () => {
      try {
        await navigator.clipboard.writeText(text);
        say('Command copied.');
      } catch { say('The browser does not allow copying here: select the text.'); }
    } }));
}

export function firstSteps(open) {
  const user = newId();
  return h('details', { class: 'steps', open }, h('summary', {}, 'Add spaces, products and people'),
    h('p', {}, 'In a terminal, with a superadmin’s key (the first is in the file admin.key of the data directory):'),
    command('export ATTACHD_KEY=…'),
    h('p', {}, 'A space with a product:'),
    command(bring({ kind: 'space', slug: 'analytics', name: 'Analytics' }, { kind: 'product', space: 'analytics', id: newId(), name: 'Orders' })),
    h('p', {}, 'A person who may upload there. Their key is made under ', h('a', { href: '#/operator/people' }, 'People'), ':'),
    command(bring({ kind: 'user', id: user, full_name: 'Ada Lovelace' }, { kind: 'member', space: 'analytics', user_id: user, role: 'editor' })),
    h('p', {}, 'Change the names as you like. Tickets, meetings and the rest are in ', h('a', { href: api.at('/docs') }, 'the API'), ', and how to run this server in ', h('a', { href: api.at('/manual') }, 'the manual'), '.'),
    h('div', { class: 'buttons' }, button('Reload', { icon: 'retry', click: () => location.reload() })));
}

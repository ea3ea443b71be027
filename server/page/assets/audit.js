// The audit log: who did what, newest first.

import { h, clear, button, empty } from './dom.js';
import { dateTime, exact } from './format.js';
import * as api from './api.js';

const step = 100; // entries at a time

export function audit({ signal }) {
  const field = (label, input) => h('label', {}, h('span', {}, label), input);
  const inputs = {
    action: h('input', { type: 'search', placeholder: 'such as attachment.delete' }),
    user: h('input', { type: 'search', placeholder: 'a user’s id' }),
    space: h('input', { type: 'search', placeholder: 'a slug' }),
    outcome: h('input', { type: 'search', placeholder: 'such as forbidden' }),
    since: h('input', { type: 'datetime-local' }),
    until: h('input', { type: 'datetime-local' }),
  };
  const names = { action: 'Action', user: 'User', space: 'Space', outcome: 'Outcome', since: 'From', until: 'Until' };
  const body = h('tbody', {});
  const end = h('div', { class: 'end' });
  const sheet = h('div', { class: 'sheet', tabindex: '0', role: 'group', 'aria-label': 'Entries of the audit log' }, h('table', {},
    h('thead', {}, h('tr', {}, ['When', 'Who', 'Did', 'To', 'Space', 'From', 'Outcome'].map((n) => h('th', { scope: 'col' }, n)))), body));
  let list;

  function begin() {
    const query = new URLSearchParams();
    for (const [name, input] of Object.entries(inputs)) {
      const value = input.type === 'datetime-local' ? input.value && new Date(input.value).toISOString().replace(/\.\d+Z$/, 'Z') : input.value.trim();
      if (value) query.set(name, value);
    }
    clear(body);
    list = api.pages(`/audit-logs?${query}`, { limit: step, signal });
    more();
  }

  async function more() {
    clear(end, h('p', { class: 'soft' }, 'Loading…'));
    try {
      const { value, done } = await list.next();
      body.append(...(value ?? []).map(row));
      sheet.hidden = !body.children.length;
      if (!body.children.length) clear(end, empty('text', 'No entries', 'Nothing that was done matches this.'));
      else if (done || value.length < step) clear(end, h('p', { class: 'soft' }, 'That is all.'));
      else clear(end, button('Show older entries', { click: more }));
    } catch (e) {
      if (e.name === 'AbortError') return;
      sheet.hidden = !body.children.length;
      clear(end, h('p', { class: 'error', role: 'alert' }, e.message));
    }
  }

  begin();
  return h('section', { 'aria-label': 'Audit log' },
    h('form', { class: 'filters', submit: (e) => { e.preventDefault(); begin(); } }, Object.entries(inputs).map(([n, input]) => field(names[n], input)), button('Show', { class: 'primary', type: 'submit' })),
    sheet, end);
}

function row(e) {
  const { actor, resource } = e;
  // An entry that cannot be read has no time.
  return h('tr', {}, h('td', {}, e.time ? h('time', { datetime: e.time, title: exact(e.time) }, dateTime(e.time)) : null),
    h('td', { title: actor.user_id ?? null }, h('bdi', {}, actor.full_name || (actor.operator ? 'an operator of this machine' : actor.user_id ?? 'nobody known')), actor.acting_id ? [' (', h('bdi', {}, actor.acting_full_name ?? 'a superadmin'), ' acted for them)'] : null),
    h('td', {}, h('code', {}, e.action)), h('td', { title: resource.id ?? null }, `${resource.kind} `, h('bdi', {}, resource.name ?? '')),
    h('td', {}, e.space ?? ''), h('td', {}, e.address ?? ''), h('td', {}, e.outcome));
}

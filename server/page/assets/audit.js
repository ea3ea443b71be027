// The audit log: who did what, newest first.

import { h, clear, button, empty } from './dom.js';
import { dateTime, exact } from './format.js';
import * as api from './api.js';

const step = 100; // entries at a time

// What is recorded, by kind, and how it can end.
const actions = {
  attachment: ['upload', 'download', 'preview', 'link', 'delete', 'restore', 'purge'],
  session: ['begin', 'end'],
  key: ['create', 'revoke'],
  hold: ['set', 'lift'],
  directory: ['import'],
  user: ['put', 'delete'],
  space: ['put', 'delete', 'restore', 'purge'],
  member: ['put', 'delete'],
  product: ['put', 'delete', 'restore', 'purge'],
  ticket: ['put', 'delete', 'restore', 'purge'],
  comment: ['put', 'delete'],
  meeting: ['put', 'delete', 'restore', 'purge'],
  trash: ['purge'],
  upkeep: ['check', 'gc', 'audit', 'compact', 'backup', 'migrate'],
  signing_key: ['rotate'],
  webhook: ['redeliver', 'ping'],
  audit: ['read', 'prune', 'skip', 'damage'],
};
const outcomes = ['done', 'unauthorized', 'forbidden', 'invalid_signature', 'link_expired', 'rate_limited', 'malware_found'];

export function audit({ signal }) {
  const field = (label, input) => h('label', {}, h('span', {}, label), input);
  const choice = (every, list) => h('select', {}, h('option', { value: '' }, every), list.map((v) => h('option', { value: v }, v)));
  const people = h('datalist', { id: 'audit-people' });
  const space = choice('All spaces', []);
  const inputs = {
    action: h('select', {}, h('option', { value: '' }, 'All actions'), Object.entries(actions).map(([kind, names]) =>
      h('optgroup', { label: kind }, h('option', { value: kind }, `${kind}: all`), names.map((n) => h('option', { value: `${kind}.${n}` }, `${kind}.${n}`))))),
    user: h('input', { type: 'search', placeholder: 'Name of a person', list: 'audit-people', autocomplete: 'off' }),
    space,
    outcome: choice('All outcomes', outcomes),
    since: h('input', { type: 'datetime-local' }),
    until: h('input', { type: 'datetime-local' }),
  };
  const names = { action: 'Action', user: 'Person', space: 'Space', outcome: 'Outcome', since: 'Since', until: 'Until' };
  const ids = new Map(); // of people, by what stands in the list of names
  api.all('/directory/users', { signal }).then((users) => {
    for (const u of users) ids.set(ids.has(u.full_name) ? `${u.full_name} (${u.id})` : u.full_name, u.id);
    people.append(...[...ids.keys()].slice(0, 5000).map((value) => h('option', { value })));
  }).catch(() => {}); // the log itself says what is wrong
  api.all('/directory/spaces', { signal }).then((spaces) => space.append(...spaces.map((s) => h('option', { value: s.slug }, s.name || s.slug)))).catch(() => {});
  const exported = h('a', { class: 'button', download: 'audit.ndjson' }, 'Export');
  const body = h('tbody', {});
  const end = h('div', { class: 'end' });
  const sheet = h('div', { class: 'sheet', tabindex: '0', role: 'group', 'aria-label': 'Entries of the audit log' }, h('table', {},
    h('thead', {}, h('tr', {}, ['When', 'Who', 'Did', 'To', 'Space', 'Address', 'Outcome'].map((n) => h('th', { scope: 'col' }, n)))), body));
  let list;

  function begin() {
    const person = inputs.user.value.trim();
    if (person && !ids.has(person) && !/^[0-9a-f-]{36}$/i.test(person)) {
      clear(body);
      sheet.hidden = true;
      return clear(end, h('p', { class: 'error', role: 'alert' }, 'Nobody has this name. Choose one from the list.'));
    }
    const query = new URLSearchParams();
    for (const [name, input] of Object.entries(inputs)) {
      const value = input.type === 'datetime-local' ? input.value && new Date(input.value).toISOString().replace(/\.\d+Z$/, 'Z') : input.value.trim();
      if (value) query.set(name, name === 'user' ? ids.get(value) ?? value : value);
    }
    exported.href = api.at(`/audit-logs/export?${query}`);
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
    h('form', { class: 'filters', submit: (e) => { e.preventDefault(); begin(); } }, Object.entries(inputs).map(([n, input]) => field(names[n], input)), button('Show', { class: 'primary', type: 'submit' }), exported, people),
    sheet, end);
}

function what({ kind, name, full_name: person, in: parent }) {
  const place = parent && api.placeOf(parent.kind, parent.id, parent.space);
  if (kind === 'key' && person) return ['key ', h('bdi', {}, name.replace(/, of user [0-9a-f-]+$/, '')), ' of ', h('bdi', {}, person)];
  return [`${kind} `, person ? [h('bdi', {}, person), name ? ': ' : ''] : null, h('bdi', {}, name ?? ''),
    place ? [' in ', h('a', { href: place.hash }, h('bdi', {}, parent.name || parent.id))] : null];
}

function row(e) {
  const { actor, resource } = e;
  // An entry that cannot be read has no time.
  return h('tr', {}, h('td', {}, e.time ? h('time', { datetime: e.time, title: exact(e.time) }, dateTime(e.time)) : null),
    h('td', { title: actor.user_id ?? null }, h('bdi', {}, actor.full_name || (actor.operator ? 'an operator of this machine' : actor.user_id ?? 'nobody known')), actor.acting_id ? [' (', h('bdi', {}, actor.acting_full_name ?? 'a superadmin'), ' acted for them)'] : null),
    h('td', {}, h('code', {}, e.action)), h('td', { title: resource.id ?? null }, what(resource)),
    h('td', {}, e.space ?? ''), h('td', {}, e.address ?? ''), h('td', {}, e.outcome));
}

// Keys: one's own, and for operators those of others.

import { h, clear, button, icon, empty, say } from './dom.js';
import { relative, exact, dateTime } from './format.js';
import * as api from './api.js';

export function keysView(app) {
  document.title = 'Keys · attachd';
  return { el: h('div', { class: 'page' }, h('h1', {}, 'Your keys'),
    h('p', { class: 'soft' }, 'A key lets a program, or a page like this one, act for you. Revoking it ends its sessions and links at once. ', h('a', { href: 'docs' }, 'What programs can do with it')),
    keys('/api-keys')) };
}

// keys lists, makes and revokes the keys at a path.
export function keys(path) {
  const list = h('div', {}, h('p', { class: 'soft' }, 'Loading…'));
  const fresh = h('div', { 'aria-live': 'polite' });
  const name = h('input', { required: true, maxlength: '500', placeholder: 'What it is for', 'aria-label': 'Name of the new key' });
  const life = h('select', { 'aria-label': 'How long the new key works' }, [['90', 'for 90 days'], ['365', 'for a year'], ['', 'without expiry']].map(([value, label]) => h('option', { value }, label)));
  const error = h('p', { class: 'error', role: 'alert' });

  async function load() {
    try {
      const all = await api.all(path);
      clear(list, all.length ? h('ul', { class: 'rows-list' }, all.reverse().map(row)) : empty('key', 'No keys yet', 'Create one to let a program in.'));
    } catch (e) {
      clear(list, h('p', { class: 'error' }, e.message));
    }
  }

  function row(k) {
    const tools = h('div', { class: 'tools-end' });
    const ask = button('Revoke', { class: 'plain', 'aria-label': `Revoke ${k.name}`, click: () => {
      const yes = button('Revoke it', { class: 'danger', click: () => revoke(k) });
      clear(tools, h('span', {}, 'Whatever uses it loses access at once.'), yes, button('Cancel', { class: 'plain', click: () => { clear(tools, ask); ask.focus(); } }));
      yes.focus();
    } });
    tools.append(ask);
    return h('li', {}, icon('key'), h('div', { class: 'grow' }, h('strong', {}, h('bdi', {}, k.name)), ' ', h('code', {}, `${k.key_prefix}…`),
      h('p', { class: 'soft small' }, `Created ${relative(k.created_at)} · `, k.last_used_at ? h('span', { title: exact(k.last_used_at) }, `used ${relative(k.last_used_at)}`) : 'never used', ' · ',
        k.expires_at ? `expires ${dateTime(k.expires_at)}` : 'never expires')), tools);
  }

  async function revoke(k) {
    try {
      await api.remove(`${path}/${k.id}`);
      say(`${k.name} was revoked.`);
    } catch (e) {
      error.textContent = e.message;
    }
    load();
  }

  async function create(e) {
    e.preventDefault();
    error.textContent = '';
    try {
      const made = await api.post(path, { name: name.value, ...(life.value ? { expires_in_days: Number(life.value) } : {}) });
      name.value = '';
      const shown = h('input', { class: 'address', readonly: true, value: made.full_key, 'aria-label': 'The new key', focus: () => shown.select() });
      clear(fresh, h('div', { class: 'once' }, h('p', {}, h('strong', {}, 'Copy the key now.'), ' It is shown this once: the server keeps only its hash.'), shown,
        button('Copy', { icon: 'link', click: async () => { try { await navigator.clipboard.writeText(made.full_key); say('Key copied.'); } catch { shown.focus(); } } }),
        button('Done', { class: 'plain', click: () => clear(fresh) })));
      shown.focus();
      load();
    } catch (failure) {
      error.textContent = failure.message;
    }
  }

  load();
  return h('section', { class: 'keys', 'aria-label': 'Keys' }, h('form', { class: 'inline', submit: create }, name, life, button('Create key', { class: 'primary', type: 'submit' })), error, fresh, list);
}

// Users, what they are members of, and their keys.

import { h, clear, button, icon, empty, say } from './dom.js';
import { count } from './format.js';
import * as api from './api.js';
import { keys } from './keys.js';
import { acting, newId } from './make.js';
import { roleSelect } from './space.js';

export function people({ app, route }) {
  return route[2] ? person(app, route[2]) : everybody();
}

function everybody() {
  let users = [];
  const list = h('div', {}, h('p', { class: 'soft' }, 'Loading…'));
  const error = h('p', { class: 'error', role: 'alert' });
  const filter = h('input', { type: 'search', placeholder: 'Search by name', 'aria-label': 'Search people by name', input: () => draw() });
  const name = h('input', { required: true, placeholder: 'Full name', 'aria-label': 'Full name of the new user' });
  const draw = () => {
    const words = filter.value.trim().toLocaleLowerCase();
    const found = users.filter((u) => u.full_name.toLocaleLowerCase().includes(words));
    clear(list, found.length ? h('ul', { class: 'rows-list' }, found.slice(0, 500).map((u) => h('li', {}, icon('people'),
      h('a', { class: 'grow', href: `#/operator/people/${u.id}` }, h('bdi', {}, u.full_name)), badges(u))))
      : empty('people', 'Nobody found', words ? 'Nobody has this in their name.' : 'Add somebody, or let your system of record do it.'),
    found.length > 500 ? h('p', { class: 'soft' }, `${count(found.length - 500, 'other')} not shown. Search to find them.`) : null);
  };
  const load = async () => {
    try {
      users = (await api.all('/directory/users')).sort((a, b) => a.full_name.localeCompare(b.full_name));
      draw();
    } catch (e) {
      clear(list, h('p', { class: 'error' }, e.message));
    }
  };
  const add = async (e) => {
    e.preventDefault();
    error.textContent = '';
    try {
      const made = await api.put(`/directory/users/${newId()}`, { full_name: name.value });
      location.hash = `#/operator/people/${made.id}`;
    } catch (failure) {
      error.textContent = failure.message;
    }
  };
  load();
  return h('section', { 'aria-label': 'People' }, h('form', { class: 'inline', submit: add }, name, button('Add user', { class: 'primary', type: 'submit' })), error,
    h('div', { class: 'search' }, icon('search'), filter), list);
}

const badges = (u) => [u.is_superadmin && 'superadmin', u.is_records_manager && 'records manager'].filter(Boolean).map((right) => h('span', { class: 'badge' }, right));

function person(app, id) {
  const el = h('section', { 'aria-label': 'Person' }, h('p', { class: 'soft' }, 'Loading…'));
  const user = `/directory/users/${encodeURIComponent(id)}`;
  const back = h('a', { class: 'back', href: '#/operator/people' }, icon('back'), 'People');
  (async () => {
    try {
      const u = await api.get(user);
      clear(el, back, h('h2', { class: 'who' }, h('bdi', {}, u.full_name), badges(u)),
        h('p', { class: 'soft small' }, h('code', {}, u.id)),
        h('h3', {}, 'Spaces'), memberships(id), h('h3', {}, 'Keys'), keys(`${user}/api-keys`),
        u.id === app.me.id ? null : removal(user, u));
    } catch (e) {
      clear(el, back, h('p', { class: 'error', role: 'alert' }, e.message));
    }
  })();
  return el;
}

function removal(user, u) {
  const el = h('div', { class: 'actions' });
  const error = h('p', { class: 'error', role: 'alert' });
  const ask = button('Remove this user', { class: 'plain', icon: 'trash', click: () => {
    const yes = button('Remove', { class: 'danger', click: async () => {
      try {
        await api.remove(user);
        say(`${u.full_name} was removed.`);
        location.hash = '#/operator/people';
      } catch (e) {
        error.textContent = e.message;
      }
    } });
    clear(el, h('p', { class: 'question' }, 'Their keys stop working at once. Files that they uploaded stay, with their name.'), yes, button('Cancel', { class: 'plain', click: () => clear(el, ask) }), error);
    yes.focus();
  } });
  el.append(ask);
  return el;
}

function memberships(id) {
  const el = h('div', {});
  const error = h('p', { class: 'error', role: 'alert' });
  const at = (slug) => `/directory/spaces/${encodeURIComponent(slug)}/members/${encodeURIComponent(id)}`;
  const act = acting(error, () => load());

  async function load() {
    try {
      const [me, spaces] = await Promise.all([api.get('/users/me', { headers: { 'X-On-Behalf-Of': id } }), api.all('/directory/spaces')]);
      const others = spaces.filter((s) => !me.spaces.some((m) => m.slug === s.slug));
      const role = roleSelect('Role in the space', 'viewer');
      const space = h('select', { 'aria-label': 'Space to add' }, others.map((s) => h('option', { value: s.slug }, s.name || s.slug)));
      clear(el, me.spaces.length ? h('ul', { class: 'rows-list' }, me.spaces.map((m) => {
        const choice = roleSelect(`Role in ${m.name || m.slug}`, m.role, () => act(() => api.put(at(m.slug), { role: choice.value })));
        return h('li', {}, icon('box'), h('span', { class: 'grow' }, h('bdi', {}, m.name || m.slug)), choice,
          button('Remove', { class: 'plain', 'aria-label': `Remove from ${m.name || m.slug}`, click: () => act(() => api.remove(at(m.slug))) }));
      })) : h('p', { class: 'soft' }, 'A member of no space yet.'),
      others.length ? h('form', { class: 'inline', submit: (e) => { e.preventDefault(); act(() => api.put(at(space.value), { role: role.value })); } }, space, role, button('Add to space', { type: 'submit' })) : null, error);
    } catch (e) {
      clear(el, h('p', { class: 'error' }, e.message));
    }
  }

  load();
  return el;
}

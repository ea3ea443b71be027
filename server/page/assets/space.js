// One space, for superadmins: what belongs to it, its name and quota, and its members.

import { h, clear, button, icon, empty, say } from './dom.js';
import * as api from './api.js';
import { acting, form, newPlace, removal } from './make.js';

const gigabyte = 1 << 30;

export class SpaceView {
  constructor(app, slug) {
    Object.assign(this, { app, slug, record: `/directory/spaces/${encodeURIComponent(slug)}` });
    this.el = h('div', { class: 'page' }, h('p', { class: 'soft' }, 'Loading…'));
    this.load();
  }

  async load() {
    try {
      this.draw(await api.get(this.record));
    } catch (e) {
      document.title = 'attachd';
      clear(this.el, h('a', { class: 'back', href: '#/' }, icon('back'), 'Places'), empty('alert', e.status === 404 ? 'Not found' : 'This did not work', e.message));
    }
  }

  draw(space) {
    const shown = () => space.name || space.slug;
    const title = h('h1', {}, h('bdi', {}, shown()));
    document.title = `${shown()} · attachd`;
    clear(this.el, h('a', { class: 'back', href: '#/' }, icon('back'), 'Places'), title,
      h('section', {}, h('h2', {}, 'Add a product, ticket or meeting'), newPlace(this.app, this.slug)),
      h('section', {}, h('h2', {}, 'Name and quota'), this.settings(space, () => { clear(title, h('bdi', {}, shown())); document.title = `${shown()} · attachd`; })),
      h('section', {}, h('h2', {}, 'Members'), members(this.record)),
      h('section', {}, removal(this.app, { what: 'space', name: shown, record: this.record, back: () => this.load(),
        gone: (...left) => clear(this.el, empty('trash', `${shown()} was removed`, 'Its products, tickets, meetings and files went with it.', ...left), h('a', { class: 'button', href: '#/' }, 'All places')) })));
  }

  settings(space, changed) {
    const gigabytes = space.quota_bytes ? String(space.quota_bytes / gigabyte) : '';
    const name = h('input', { value: space.name ?? '', required: true, 'aria-label': 'Name of the space' });
    const size = h('input', { type: 'number', min: '0', step: 'any', value: gigabytes, placeholder: 'No limit', 'aria-label': 'Quota in GB' });
    const files = h('input', { type: 'number', min: '0', value: space.quota_files || '', placeholder: 'No limit', 'aria-label': 'Quota in files' });
    const labelled = (label, field) => h('label', {}, label, field);
    return form(h('div', { class: 'filters grow' }, labelled('Name', name), labelled('At most GB', size), labelled('At most files', files)), 'Save', async () => {
      Object.assign(space, await api.put(this.record, { name: name.value, quota_bytes: size.value === gigabytes ? space.quota_bytes : Math.round(Number(size.value) * gigabyte) || null, quota_files: Number(files.value) || null }));
      await this.app.places.load();
      changed();
      say('Saved.');
    });
  }
}

const roles = ['viewer', 'editor', 'admin'];

export const roleSelect = (label, value, change) => h('select', { 'aria-label': label, change }, roles.map((r) => h('option', { value: r, selected: r === value }, r)));

// members lists who may do what in a space, and changes that.
function members(space) {
  const el = h('div', {}, h('p', { class: 'soft' }, 'Loading…'));
  const error = h('p', { class: 'error', role: 'alert' });
  const at = (id) => `${space}/members/${encodeURIComponent(id)}`;
  const act = acting(error, () => load());
  async function load() {
    try {
      const [list, users] = await Promise.all([api.all(`${space}/members`), api.all('/directory/users')]);
      const names = new Map(users.map((u) => [u.id, u.full_name]));
      const others = users.filter((u) => !list.some((m) => m.user_id === u.id)).sort((a, b) => a.full_name.localeCompare(b.full_name));
      const who = h('select', { 'aria-label': 'Person to add' }, others.map((u) => h('option', { value: u.id }, u.full_name)));
      const role = roleSelect('Role of the person', 'viewer');
      clear(el, list.length ? h('ul', { class: 'rows-list' }, list.map((m) => {
        const name = names.get(m.user_id) ?? m.user_id;
        const choice = roleSelect(`Role of ${name}`, m.role, () => act(() => api.put(at(m.user_id), { role: choice.value })));
        return h('li', {}, icon('people'), h('a', { class: 'grow', href: `#/operator/people/${m.user_id}` }, h('bdi', {}, name)), choice,
          button('Remove', { class: 'plain', 'aria-label': `Remove ${name} from the space`, click: () => act(() => api.remove(at(m.user_id))) }));
      })) : h('p', { class: 'soft' }, 'Nobody yet but superadmins.'),
      others.length ? h('form', { class: 'inline', submit: (e) => { e.preventDefault(); act(() => api.put(at(who.value), { role: role.value })); } }, who, role, button('Add member', { type: 'submit' }))
        : h('p', { class: 'soft' }, 'Everybody is a member. ', h('a', { href: '#/operator/people' }, 'Add people')), error);
    } catch (e) {
      clear(el, h('p', { class: 'error' }, e.message));
    }
  }
  load();
  return el;
}

// The places that somebody may see: spaces with their products, tickets and
// meetings.

import { h, clear, icon } from './dom.js';
import * as api from './api.js';

const groups = [
  { kind: 'product', label: 'Products', icon: 'box', path: (slug) => `/directory/spaces/${encodeURIComponent(slug)}/products` },
  { kind: 'ticket', label: 'Tickets', icon: 'ticket', path: (slug) => `/directory/tickets?space=${encodeURIComponent(slug)}` },
  { kind: 'meeting', label: 'Meetings', icon: 'calendar', path: (slug) => `/directory/meetings?space=${encodeURIComponent(slug)}` },
];
const few = 8; // spaces that are opened at once
const shown = 50; // places of a group before somebody asks for more

export class Places {
  constructor(app) {
    this.app = app;
    this.spaces = [];
    this.words = '';
    this.current = null;
    this.input = h('input', { type: 'search', placeholder: 'Search places', 'aria-label': 'Search places by name', input: () => this.search() });
    this.tree = h('div', { class: 'tree' }, h('p', { class: 'soft' }, 'Loading places…'));
    this.el = h('nav', { class: 'places', 'aria-label': 'Places' },
      h('div', { class: 'search' }, icon('search'), this.input), this.tree);
    this.load();
  }

  async load() {
    try {
      const spaces = await api.all('/directory/spaces');
      this.spaces = spaces.map((s) => ({ ...s, places: null, open: spaces.length <= few || s.slug === this.current?.space, more: {} }));
    } catch (e) {
      return clear(this.tree, h('p', { class: 'error' }, e.message));
    }
    await Promise.all(this.spaces.filter((s) => s.open).map((s) => this.fill(s)));
    this.draw();
  }

  // fill gets what is in a space, once.
  fill(space) {
    space.filling ??= Promise.all(groups.map(({ path }) => api.all(path(space.slug)))).then((lists) => {
      space.places = lists.flatMap((list, i) => list
        .map((p) => ({ ...api.placeOf(groups[i].kind, p.id, space.slug), name: p.name || p.title || p.id }))
        .sort((a, b) => a.name.localeCompare(b.name)));
    }).catch((e) => { space.error = e.message; space.filling = null; });
    return space.filling;
  }

  async search() {
    this.words = this.input.value.trim().toLocaleLowerCase();
    this.draw();
    if (!this.words) return;
    for (const space of this.spaces) {
      if (space.places) continue;
      await this.fill(space);
      this.draw();
    }
  }

  mark(place) {
    this.current = place;
    const space = place && this.spaces.find((s) => s.slug === place.space);
    if (space && !space.open) this.open(space);
    for (const a of this.tree.querySelectorAll('a')) {
      if (a.getAttribute('href') === place?.hash) a.setAttribute('aria-current', 'page');
      else a.removeAttribute('aria-current');
    }
  }

  async open(space) {
    space.open = true;
    await this.fill(space);
    this.draw();
  }

  draw() {
    const found = this.spaces.map((s) => this.drawSpace(s)).filter(Boolean);
    if (found.length) clear(this.tree, found);
    else clear(this.tree, h('p', { class: 'soft' }, this.words ? 'No place has this in its name.' : 'There are no places yet.'));
  }

  drawSpace(space) {
    const matches = (space.places ?? []).filter((p) => !this.words || p.name.toLocaleLowerCase().includes(this.words));
    const named = (space.name || space.slug).toLocaleLowerCase().includes(this.words);
    if (this.words && !matches.length && !named) return null;
    const listed = this.words && !matches.length ? space.places ?? [] : matches;
    const details = h('details', { open: space.open || this.words !== '' },
      h('summary', {}, h('bdi', {}, space.name || space.slug)),
      space.error ? h('p', { class: 'error' }, space.error) : null,
      space.places && !listed.length ? h('p', { class: 'soft' }, 'Nothing here yet. The system of record tells what there is.') : null,
      groups.map((g) => this.drawGroup(space, g, listed.filter((p) => p.kind === g.kind))));
    details.addEventListener('toggle', () => {
      if (this.words) return;
      space.open = details.open;
      if (details.open && !space.places) this.open(space);
    });
    return details;
  }

  drawGroup(space, { kind, label, icon: name }, list) {
    if (!list.length) return null;
    const most = space.more[kind] ?? shown;
    return [h('h3', {}, label), h('ul', {}, list.slice(0, most).map((p) => h('li', {},
      h('a', { href: p.hash, 'aria-current': p.hash === this.current?.hash ? 'page' : null }, icon(name), h('bdi', {}, p.name))))),
    list.length > most ? h('button', { type: 'button', class: 'plain small', click: () => { space.more[kind] = most + 500; this.draw(); } }, `Show more (${(list.length - most).toLocaleString()})`) : null];
  }
}

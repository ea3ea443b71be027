// The places that somebody may see: spaces with their products, tickets and
// meetings.

import { h, clear, icon, say } from './dom.js';
import * as api from './api.js';

const groups = [
  { kind: 'product', label: 'Products', icon: 'box', path: (slug) => `/directory/spaces/${encodeURIComponent(slug)}/products` },
  { kind: 'ticket', label: 'Tickets', icon: 'ticket', path: (slug) => `/directory/tickets?space=${encodeURIComponent(slug)}` },
  { kind: 'meeting', label: 'Meetings', icon: 'calendar', path: (slug) => `/directory/meetings?space=${encodeURIComponent(slug)}` },
];
const few = 4; // spaces that are opened at once: each is three requests
const pageSize = 1000; // places in an answer of the server, which it allows at most
const shown = 50; // places of a group before somebody asks for more

const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });
const inOrder = (a, b) => collator.compare(a.name, b.name);

// Group is what a space has of a kind. The server lists it page by page, and
// it is asked for no more of them than somebody wants to see.
class Group {
  constructor(kind, space) {
    Object.assign(this, { kind, space, more: shown, whole: false });
    this.restart();
  }

  restart() {
    this.places = [];
    this.pages = api.pages(this.kind.path(this.space), { limit: pageSize });
  }

  // load gets the next page, whoever asks while it comes.
  load() {
    this.loading ??= this.pages.next().then(({ value, done }) => {
      const places = (value ?? []).map((p) => placed(this.kind.kind, p.id, this.space, p.name || p.title || p.id));
      this.places = [...this.places, ...places].sort(inOrder);
      this.whole = done || places.length < pageSize;
    }).catch((e) => { this.restart(); throw e; }).finally(() => { this.loading = null; });
    return this.loading;
  }
}

function placed(kind, id, space, name) {
  return { ...api.placeOf(kind, id, space), name, words: name.toLocaleLowerCase() };
}

export class Places {
  constructor(app) {
    this.app = app;
    this.spaces = [];
    this.words = '';
    this.current = null; // the place that is shown
    this.last = null; // the place that is or was shown, once its name is known
    this.input = h('input', { type: 'search', placeholder: 'Search places', 'aria-label': 'Search places by name', input: () => this.search() });
    this.tree = h('div', { class: 'tree' }, h('p', { class: 'soft' }, 'Loading places…'));
    this.el = h('nav', { class: 'places', 'aria-label': 'Places' },
      h('div', { class: 'search' }, icon('search'), this.input), this.tree);
    this.ready = this.load();
  }

  async load() {
    try {
      const spaces = await api.all('/directory/spaces');
      const open = new Set(this.spaces.filter((s) => s.open).map((s) => s.slug));
      this.spaces = spaces.map((s) => ({ ...s, groups: null, open: spaces.length <= few || open.has(s.slug) || s.slug === this.current?.space }));
    } catch (e) {
      return clear(this.tree, h('p', { class: 'error' }, e.message));
    }
    await Promise.all(this.spaces.filter((s) => s.open).map((s) => this.fill(s)));
    this.loaded = true;
    this.draw();
    this.reveal();
  }

  // fill gets the first page of everything in a space, once.
  fill(space) {
    space.filling ??= (async () => {
      const made = groups.map((kind) => new Group(kind, space.slug));
      await Promise.all(made.map((g) => g.load()));
      space.groups = made;
    })().catch((e) => { space.error = e.message; space.filling = null; });
    return space.filling;
  }

  // search looks at the names that are here, and then at the others: there is
  // no search on the server.
  async search() {
    const words = this.words = this.input.value.trim().toLocaleLowerCase();
    this.draw();
    if (!words || this.searching) return;
    this.searching = true;
    try {
      for (const space of this.spaces) {
        await this.fill(space);
        for (const group of space.groups ?? []) {
          while (this.words && !group.whole) { await group.load(); this.draw(); }
        }
        if (!this.words) break;
      }
    } catch (e) {
      this.failed = e.message;
    }
    this.searching = false;
    this.draw();
    this.failed = null;
  }

  // mark shows where the reader is, wherever in the tree that is.
  mark(place) {
    const moved = place?.hash !== this.current?.hash;
    this.current = place;
    const space = place && this.spaces.find((s) => s.slug === place.space);
    if (space && !space.open) this.open(space).then(() => this.reveal());
    for (const a of this.tree.querySelectorAll('a')) {
      if (a.getAttribute('href') === place?.hash) a.setAttribute('aria-current', 'page');
      else a.removeAttribute('aria-current');
    }
    if (moved) this.reveal();
  }

  // know is told the name of the place that is shown: the tree need not have
  // come to it.
  know(place, name) {
    this.last = placed(place.kind, place.id, place.space, name);
    if (this.loaded && !this.link()) this.draw();
    this.reveal();
  }

  link() {
    const hash = this.current?.hash ?? this.last?.hash;
    return [...this.tree.querySelectorAll('a')].find((a) => a.getAttribute('href') === hash);
  }

  // reveal scrolls to the place that is shown, or was last.
  reveal() {
    const r = this.link()?.getBoundingClientRect();
    const port = this.el.getBoundingClientRect();
    if (!r?.height || r.top >= port.top && r.bottom <= port.bottom) return;
    this.el.scrollTop += r.top - port.top - (this.el.clientHeight - r.height) / 2;
  }

  async open(space) {
    space.open = true;
    await this.fill(space);
    this.draw();
  }

  draw() {
    const at = document.activeElement?.closest('.tree a')?.getAttribute('href');
    const found = this.spaces.map((s) => this.drawSpace(s)).filter(Boolean);
    const state = this.failed ?? (this.words && this.searching ? 'Searching…' : found.length ? null : this.words ? 'No place has this in its name.' : 'There are no places yet.');
    clear(this.tree, found, state ? h('p', { class: this.failed ? 'error' : 'soft' }, state) : null,
      this.app.me.is_superadmin && !this.words ? h('a', { class: 'button', href: '#/new' }, 'New space') : null);
    if (at) [...this.tree.querySelectorAll('a')].find((a) => a.getAttribute('href') === at)?.focus();
  }

  drawSpace(space) {
    const all = space.groups ?? [];
    const matches = new Map(all.map((g) => [g, this.words ? g.places.filter((p) => p.words.includes(this.words)) : g.places]));
    const any = [...matches.values()].some((list) => list.length);
    const named = (space.name || space.slug).toLocaleLowerCase().includes(this.words);
    if (this.words && !any && !named) return null;
    const details = h('details', { open: space.open || this.words !== '' },
      h('summary', {}, h('bdi', {}, space.name || space.slug)),
      space.error ? h('p', { class: 'error' }, space.error) : null,
      space.groups && !all.some((g) => g.places.length) ? h('p', { class: 'soft' }, 'Nothing here yet.') : null,
      all.map((g) => this.drawGroup(g, any || !this.words ? matches.get(g) : g.places)),
      this.app.me.is_superadmin && !this.words ? h('p', { class: 'manage' }, h('a', { href: `#/spaces/${encodeURIComponent(space.slug)}` }, 'Add or change', h('span', { class: 'unseen' }, ` in ${space.name || space.slug}`))) : null);
    details.addEventListener('toggle', () => {
      if (this.words) return;
      space.open = details.open;
      if (details.open && !space.groups) this.open(space);
    });
    return details;
  }

  drawGroup(group, list) {
    if (!list.length) return null;
    const { label, icon: name, kind } = group.kind;
    const first = list.slice(0, group.more);
    const here = this.last?.space === group.space && this.last.kind === kind && !this.words && !first.some((p) => p.hash === this.last.hash) ? [this.last] : [];
    const left = list.length - first.length;
    return [h('h3', {}, label), h('ul', {}, [...first, ...here].map((p) => h('li', {},
      h('a', { href: p.hash, 'aria-current': p.hash === this.current?.hash ? 'page' : null }, icon(name), h('bdi', {}, p.name))))),
    left || !group.whole && !this.words ? h('button', { type: 'button', class: 'plain small', click: () => this.more(group, list[group.more - 1]) },
      group.whole ? `Show more (${left.toLocaleString()})` : `Show more (over ${left.toLocaleString()})`) : null];
  }

  // more shows more of a group, and goes on from the last one that was shown.
  async more(group, last) {
    if (group.more + 500 > group.places.length && !group.whole) {
      try {
        await group.load();
      } catch (e) {
        return say(e.message);
      }
    }
    group.more += 500;
    this.draw();
    [...this.tree.querySelectorAll('a')].find((a) => a.getAttribute('href') === last?.hash)?.closest('li').nextElementSibling?.firstChild.focus();
  }
}

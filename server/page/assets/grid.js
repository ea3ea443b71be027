// A list of files of any length: only the rows in sight are in the document,
// each for as long as it is in sight, wherever in the list it gets. The
// keyboard's place is kept by the grid itself, so that rows may come and go.

import { h, icon, fileName, unpressed } from './dom.js';
import { bytes, relative, exact, kindOf, kinds } from './format.js';
import { at } from './api.js';

const margin = 6; // rows beyond those in sight
const pictures = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/bmp', 'image/tiff']);
const failed = new Map(); // how often a file gave no thumbnail
const again = 10000; // milliseconds until it is asked for the second and last time

const columns = [
  { name: 'name', label: 'Name' },
  { name: 'size', label: 'Size' },
  { name: 'who', label: 'Uploaded by' },
  { name: 'when', label: 'When' },
];

export const orders = {
  name: (a, b) => collator.compare(a.file_name, b.file_name),
  size: (a, b) => a.file_size - b.file_size,
  who: (a, b) => collator.compare(a.uploaded_by.full_name, b.uploaded_by.full_name),
  when: (a, b) => (a.id < b.id ? -1 : 1), // ids are in the order of time
};
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

export class Grid {
  // on: {open(file), selection(), sort(column), remove(), commentOf(file)}
  constructor(place, on) {
    Object.assign(this, { place, on, rows: [], selected: new Set(), drawn: new Map(), active: -1, anchor: 0 });
    this.body = h('div', { role: 'rowgroup', class: 'rows' });
    this.headers = columns.map((c) => h('div', { role: 'columnheader', class: `cell ${c.name}` },
      h('button', { type: 'button', click: () => on.sort(c.name) }, c.label)));
    this.everything = h('input', { type: 'checkbox', 'aria-label': 'Select all', change: () => this.select(this.everything.checked ? this.rows : []) });
    this.el = h('div', { role: 'grid', class: `grid ${place.kind}`, tabindex: '0', 'aria-label': 'Files', 'aria-multiselectable': 'true',
      keydown: (e) => this.key(e), click: (e) => this.click(e), dblclick: (e) => this.open(e), focus: () => { if (this.active < 0 && this.rows.length) this.go(0); } },
    h('div', { role: 'rowgroup', class: 'head' }, h('div', { role: 'row', 'aria-rowindex': '1', class: 'row' },
      h('div', { role: 'columnheader', class: 'cell check', 'aria-label': 'Selection' }, this.everything), this.headers,
      place.kind === 'ticket' ? h('div', { role: 'columnheader', class: 'cell comment' }, 'Comment') : null)),
    this.body);
    this.unpressed = unpressed(this.el);
    this.replace = () => this.put(...this.next);
    document.addEventListener('scroll', this.scrolled = () => this.later(), { capture: true, passive: true });
    this.resized = new ResizeObserver(() => this.later());
    this.resized.observe(this.el);
  }

  close() {
    this.resized.disconnect();
    document.removeEventListener('scroll', this.scrolled, { capture: true });
  }

  // scroller is what scrolls the rows: the whole page on a low screen.
  get scroller() {
    return getComputedStyle(this.el).overflowY === 'visible' ? document.scrollingElement : this.el;
  }

  // sight is what is to be seen of the rows, in pixels from the first one's top.
  sight() {
    const { top } = this.body.getBoundingClientRect();
    const port = this.el.getBoundingClientRect();
    return [Math.max(0, port.top) - top + this.el.firstElementChild.offsetHeight, Math.min(innerHeight, port.bottom) - top];
  }

  // show replaces what is listed; the selection stays where it is still there.
  show(rows, sorted) {
    this.next = [rows, sorted];
    this.unpressed(this.replace);
  }

  put(rows, sorted) {
    const active = this.rows[this.active]?.id;
    this.keepInPlace(rows);
    this.rows = rows;
    this.active = active ? rows.findIndex((r) => r.id === active) : -1;
    const there = new Set(rows.map((r) => r.id));
    for (const id of this.selected) if (!there.has(id)) this.selected.delete(id);
    this.headers.forEach((el, i) => {
      const on = columns[i].name === sorted.by;
      el.setAttribute('aria-sort', on ? (sorted.down ? 'descending' : 'ascending') : 'none');
    });
    this.el.setAttribute('aria-rowcount', rows.length + 1);
    this.draw();
    this.selectionChanged();
    this.on.listed();
  }

  // keepInPlace scrolls along with the first row in sight, for whoever has
  // scrolled to it.
  keepInPlace(rows) {
    if (!this.rowHeight) return;
    const first = Math.floor(this.sight()[0] / this.rowHeight);
    if (first < 1) return;
    const now = rows.findIndex((r) => r.id === this.rows[first]?.id);
    if (now <= first) return;
    this.body.style.height = `${rows.length * this.rowHeight}px`;
    this.scroller.scrollTop += (now - first) * this.rowHeight;
  }

  later() { this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); }); }

  draw() {
    const height = this.rowHeight = parseFloat(getComputedStyle(this.el).getPropertyValue('--row')) || 52;
    this.body.style.height = `${this.rows.length * height}px`;
    const [top, bottom] = this.sight();
    const first = Math.max(0, Math.floor(top / height) - margin);
    const last = Math.min(this.rows.length, Math.ceil(bottom / height) + margin);
    const ids = new Map(this.rows.slice(first, last).map((a, k) => [a.id, first + k]));
    const active = this.rows[this.active];
    if (active) ids.set(active.id, this.active); // screen readers are at it, in sight or not
    for (const [id, el] of this.drawn) {
      if (!ids.has(id)) { el.remove(); this.drawn.delete(id); }
    }
    const inOrder = [...ids].sort(([, a], [, b]) => a - b);
    for (const [k, [id, i]] of inOrder.entries()) {
      let el = this.drawn.get(id);
      if (!el) {
        el = this.row(this.rows[i]);
        this.drawn.set(id, el);
      }
      const before = this.body.children[k] ?? null;
      if (before !== el) this.body.insertBefore(el, before);
      el.style.transform = `translateY(${i * height}px)`;
      el.dataset.index = i;
      el.setAttribute('aria-rowindex', i + 2);
      this.mark(el, i);
    }
    if (active) this.el.setAttribute('aria-activedescendant', this.drawn.get(active.id).id);
    else this.el.removeAttribute('aria-activedescendant');
  }

  mark(el, i) {
    const chosen = this.selected.has(this.rows[i].id);
    el.setAttribute('aria-selected', chosen);
    el.querySelector('input').checked = chosen;
    el.classList.toggle('active', i === this.active);
    el.classList.toggle('open', this.rows[i].id === this.opened);
    el.classList.toggle('new', this.rows[i].isNew === true);
    const wrong = this.on.faultOf(this.rows[i]);
    const badge = el.querySelector('.badge');
    if (wrong && !badge) el.querySelector('.cell.name').append(h('span', { class: 'badge bad' }, wrong));
    else if (!wrong) badge?.remove();
  }

  row(a) {
    const comment = this.place.kind === 'ticket' ? this.on.commentOf(a) : null;
    return h('div', { role: 'row', class: 'row', id: `f-${a.id}` },
      h('div', { role: 'gridcell', class: 'cell check' }, h('input', { type: 'checkbox', tabindex: '-1', 'aria-label': `Select ${a.file_name}` })),
      h('div', { role: 'gridcell', class: 'cell name' }, this.picture(a),
        h('a', { href: this.on.address(a), tabindex: '-1', class: 'open-file', 'aria-label': a.file_name }, fileName(a.file_name))),
      h('div', { role: 'gridcell', class: 'cell size', title: `${a.file_size.toLocaleString()} bytes` }, bytes(a.file_size)),
      h('div', { role: 'gridcell', class: 'cell who' }, h('bdi', {}, a.uploaded_by.full_name)),
      h('div', { role: 'gridcell', class: 'cell when' }, h('time', { datetime: a.created_at, title: exact(a.created_at) }, relative(a.created_at))),
      this.place.kind === 'ticket' ? h('div', { role: 'gridcell', class: 'cell comment', title: a.comment_id ?? null }, comment ?? '') : null);
  }

  picture(a) {
    const kind = kindOf(a.mime_type);
    const sign = () => h('span', { class: `thumb ${kind}` }, icon(kinds[kind].icon));
    if (!pictures.has(a.mime_type) || failed.get(a.id) > 1) return sign();
    const img = h('img', { class: 'thumb', alt: '', loading: 'lazy', decoding: 'async', src: at(`${this.place.file(a.id)}/thumbnail`),
      error: () => {
        const times = (failed.get(a.id) ?? 0) + 1;
        const instead = sign();
        failed.set(a.id, times);
        img.replaceWith(instead);
        if (times === 1) setTimeout(() => { if (instead.isConnected) instead.replaceWith(this.picture(a)); }, again);
      } });
    return img;
  }

  // Selecting.

  select(rows) {
    this.selected = new Set(rows.map((r) => r.id));
    this.later();
    this.selectionChanged();
  }

  toggle(i) {
    const { id } = this.rows[i];
    if (!this.selected.delete(id)) this.selected.add(id);
    this.anchor = i;
    this.later();
    this.selectionChanged();
  }

  range(to) {
    const [from, end] = [Math.min(this.anchor, to), Math.max(this.anchor, to)];
    this.select(this.rows.slice(from, end + 1));
  }

  selectionChanged() {
    this.everything.checked = this.rows.length > 0 && this.selected.size === this.rows.length;
    this.everything.indeterminate = this.selected.size > 0 && !this.everything.checked;
    this.on.selection();
  }

  chosen() { return this.rows.filter((r) => this.selected.has(r.id)); }

  click(e) {
    const el = e.target.closest('.rows .row');
    if (!el) return;
    const i = Number(el.dataset.index);
    if (e.detail === 1) this.clicked = this.rows[i].id;
    const box = e.target.closest('input');
    const link = e.target.closest('a');
    if (link && !e.ctrlKey && !e.metaKey && !e.shiftKey) {
      this.go(i);
      return; // the address does the rest, and the back button undoes it
    }
    if (link) e.preventDefault();
    if (e.shiftKey) this.range(i);
    else if (box || e.ctrlKey || e.metaKey) this.toggle(i);
    else { this.anchor = i; this.select([this.rows[i]]); }
    this.go(i);
    this.el.focus({ preventScroll: true });
  }

  // open opens what the first of two clicks was on: it may have moved since.
  open(e) {
    if (e.target.closest('input, .head')) return;
    const row = this.rows.find((r) => r.id === this.clicked);
    if (row) this.on.open(row);
  }

  // go moves the keyboard's place.
  go(i, extend = false) {
    if (!this.rows.length) return;
    this.active = Math.max(0, Math.min(this.rows.length - 1, i));
    const top = this.active * this.rowHeight;
    const [from, to] = this.sight();
    if (top < from) this.scroller.scrollTop += top - from;
    else if (top + this.rowHeight > to) this.scroller.scrollTop += Math.min(top + this.rowHeight - to, top - from);
    if (extend) this.range(this.active);
    this.draw();
  }

  key(e) {
    if (e.target !== this.el || e.altKey) return;
    const [from, end] = this.sight();
    const screen = Math.max(1, Math.floor((end - from) / this.rowHeight) - 1);
    const to = { ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + screen, PageUp: this.active - screen, Home: 0, End: this.rows.length - 1 }[e.key];
    const command = e.ctrlKey || e.metaKey;
    if (to !== undefined) {
      if (!e.shiftKey) this.anchor = Math.max(0, to);
      this.go(to, e.shiftKey);
      if (this.opened && !e.shiftKey && this.rows[this.active]) this.on.open(this.rows[this.active]);
    } else if (command && e.key.toLowerCase() === 'a') this.select(this.rows);
    else if (e.key === ' ' && this.active >= 0) this.toggle(this.active);
    else if (e.key === 'Enter' && this.active >= 0) this.on.open(this.rows[this.active]);
    else if (e.key === 'Delete') {
      if (!this.selected.size && this.active >= 0) this.toggle(this.active);
      this.on.remove();
    } else if (e.key === 'Escape') {
      if (this.opened) this.on.open(null);
      else this.select([]);
    } else return;
    e.preventDefault();
  }
}

// One product, ticket or meeting and its files.

import { h, clear, button, icon, empty, emptyPage, say } from './dom.js';
import { bytes, count, dateTime, kindOf, kinds } from './format.js';
import * as api from './api.js';
import { Grid, orders } from './grid.js';
import { Preview } from './preview.js';
import { Actions } from './actions.js';
import { filesOf, pasted, bringsFiles } from './drop.js';
import { whatIsWrong } from './faults.js';
import { acceptedTypes } from './types.js';
import { form, removal } from './make.js';

const interval = 15000; // milliseconds between looks for changes

const words = { product: 'Product', ticket: 'Ticket', meeting: 'Meeting' };

export class PlaceView {
  constructor(app, place) {
    Object.assign(this, { app, place, files: [], comments: [], record: null, loading: true, faults: new Map(), version: {}, sorted: { by: 'when', down: true } });
    this.stop = new AbortController();
    const { signal } = this.stop;
    this.heading = h('h1', {}, h('bdi', {}, '…'));
    this.pick = h('input', { type: 'file', multiple: true, hidden: true, 'aria-label': 'Files to upload', tabindex: '-1', change: () => { this.upload([...this.pick.files]); this.pick.value = ''; } });
    this.chooser = button('Upload files', { class: 'primary', icon: 'upload', click: () => this.pick.click() });
    this.manager = h('div', { class: 'manager', hidden: true });
    this.manage = button('Rename or remove', { icon: 'edit', quiet: true, 'aria-expanded': 'false', click: () => this.showManager(this.manager.hidden) });
    this.hint = h('div', { class: 'hint' });
    this.filter = h('input', { type: 'search', placeholder: 'Filter by name', 'aria-label': 'Filter files by name', input: () => this.list() });
    this.kind = h('select', { 'aria-label': 'Filter files by type', change: () => this.list() });
    this.comment = h('select', { 'aria-label': 'Filter files by comment', hidden: true, change: () => this.list() });
    this.order = h('select', { class: 'phone', 'aria-label': 'Sort files', change: () => { const [by, down] = this.order.value.split(' '); this.sorted = { by, down: down === 'down' }; this.list(); } },
      [['when down', 'Newest first'], ['when up', 'Oldest first'], ['name up', 'By name'], ['size down', 'Largest first'], ['who up', 'By person']].map(([value, label]) => h('option', { value }, label)));
    this.grid = new Grid(place, {
      address: (a) => this.address(a),
      open: (a) => { location.hash = this.address(a); },
      sort: (by) => { this.sorted = { by, down: this.sorted.by === by ? !this.sorted.down : by === 'size' || by === 'when' }; this.list(); },
      selection: () => this.actions?.show(),
      listed: () => this.listed(),
      remove: () => this.actions.askToDelete(),
      faultOf: (a) => this.faults.get(a.id),
      commentOf: (a) => this.commentLabel(a.comment_id),
    });
    this.actions = new Actions(this);
    this.preview = new Preview(this);
    this.again = button('Refresh', { icon: 'retry', quiet: true, click: () => this.refresh(true) });
    this.body = h('div', { class: 'list' });
    this.target = h('div', { class: 'drop', hidden: true }, icon('upload'), h('p', {}));
    this.el = h('div', { class: 'place' },
      h('div', { class: 'files' },
        h('header', { class: 'place-head' },
          h('div', { class: 'title' }, h('a', { class: 'back', href: '#/' }, icon('back'), h('span', {}, 'Places')),
            h('p', { class: 'crumb' }, icon(place.kind === 'product' ? 'box' : place.kind === 'ticket' ? 'ticket' : 'calendar'), h('span', {}, `${words[place.kind]} in `, this.space = h('bdi', {}))), this.heading),
          app.me.is_superadmin ? this.manage : null, this.chooser, this.pick),
        this.manager, this.hint,
        this.tools = h('div', { class: 'tools' }, h('div', { class: 'search' }, icon('search'), this.filter), this.kind, this.comment, this.order, this.again),
        this.actions.el, this.body),
      this.preview.el, this.target);
    this.nameSpace();
    app.places.ready.then(() => this.nameSpace()); // superadmins are members of none
    this.accept();
    document.addEventListener('paste', (e) => this.paste(e), { signal });
    app.uploads.done.addEventListener('uploaded', (e) => this.uploaded(e.detail), { signal });
    document.addEventListener('visibilitychange', () => this.refresh(), { signal });
    addEventListener('focus', () => this.refresh(), { signal });
    this.load().then(() => this.watch());
  }

  close() {
    clearTimeout(this.timer);
    this.stop.abort();
    this.grid.close();
    this.preview.close();
  }

  update(_, params) {
    this.open = params.get('file');
    this.preview.show(this.files.find((a) => a.id === this.open) ?? null);
    this.grid.opened = this.open;
    this.grid.later();
    this.actions.show();
  }

  focus = () => (this.grid.el.checkVisibility() ? this.grid : this.preview).el.focus({ preventScroll: true });

  address(a) { return this.place.hash + (a ? `?file=${a.id}` : ''); }

  nameSpace() { this.space.textContent = this.app.spaceName(this.place.space); }

  async load() {
    try {
      this.record = await api.get(this.place.record);
      this.place.space = this.record.space;
      this.nameSpace();
      this.nameIt();
      this.drawHint();
      if (this.place.kind === 'ticket') await this.loadComments();
      for await (const page of api.pages(this.place.list, { signal: this.stop.signal, version: this.version })) {
        this.files.push(...page);
        this.list();
      }
      this.loading = false;
      this.list();
      await this.loadFaults();
      if (this.open && !this.files.some((a) => a.id === this.open)) this.preview.missing();
    } catch (e) {
      if (e.name === 'AbortError' || e.status === 401) return;
      this.loading = false;
      if (this.files.length) return say(e.message);
      this.chooser.hidden = this.manage.hidden = this.tools.hidden = true;
      this.actions.show();
      clear(this.heading, words[this.place.kind]);
      clear(this.body, empty('alert', { 403: 'Access denied', 404: 'Not found' }[e.status] ?? 'This did not work', e.message,
        button('Try again', { icon: 'retry', click: () => location.reload() }), h('a', { class: 'button', href: '#/' }, 'All places')));
    }
  }

  nameIt() {
    this.name = this.record.name || this.record.title || this.record.id;
    clear(this.heading, h('bdi', {}, this.name));
    document.title = `${this.name} · attachd`;
    this.app.places.know(this.place, this.name);
  }

  // showManager shows or hides what a superadmin may do with the place itself.
  showManager(shown) {
    const { place, app } = this;
    this.manager.hidden = !shown;
    this.manage.setAttribute('aria-expanded', String(shown));
    if (!shown) return this.manage.focus();
    const member = place.kind === 'product' ? 'name' : 'title';
    const name = h('input', { value: this.record[member] ?? '', required: true, 'aria-label': `Name of the ${place.kind}` });
    clear(this.manager, form(name, 'Rename', async () => {
      const { id, ...record } = await api.get(place.record); // which somebody else may have changed
      this.record = await api.put(place.record, place.kind === 'product' ? { name: name.value } : { ...record, title: name.value });
      await app.places.load();
      this.nameIt();
      this.showManager(false);
      say('Renamed.');
    }), removal(app, { what: place.kind, name: () => this.name, record: place.record,
      gone: (...left) => {
        this.close();
        clear(app.main, emptyPage('trash', `${this.name} was removed`, 'Its files went with it.', ...left, h('a', { class: 'button', href: '#/' }, 'All places')));
      },
      back: () => app.again() }));
    name.focus();
  }

  // watch looks now and then for what others do; not all tabs at the same time.
  watch() {
    clearTimeout(this.timer);
    if (!this.stop.signal.aborted) this.timer = setTimeout(() => this.refresh(), interval * (0.8 + 0.4 * Math.random()));
  }

  // refresh takes in what has changed on the server.
  async refresh(asked = false) {
    if (this.loading || this.changed || document.hidden) return;
    this.changed = { added: new Set(), gone: new Set() }; // meanwhile, by this page
    this.again.disabled = asked;
    try {
      let read = null;
      for await (const page of api.pages(this.place.list, { signal: this.stop.signal, version: this.version })) read = [...read ?? [], ...page];
      if (read) {
        if (this.place.kind === 'ticket') await this.loadComments();
        this.merge(read);
        await this.loadFaults();
      } else if (asked) say('Nothing has changed.');
    } catch (e) {
      this.version.tag = null; // a list that was read in part is not known
      if (asked && e.name !== 'AbortError') this.actions.tell([e.message]);
    }
    this.changed = null;
    this.again.disabled = false;
    this.watch();
  }

  merge(read) {
    const { added, gone } = this.changed;
    const known = new Map(this.files.map((a) => [a.id, a]));
    const now = new Set(read.map((a) => a.id));
    const files = read.filter((a) => !gone.has(a.id)).map((a) => (known.has(a.id) ? Object.assign(known.get(a.id), a) : { ...a, isNew: true }));
    const fresh = files.filter((a) => !known.has(a.id)).length;
    const lost = this.files.filter((a) => !now.has(a.id) && !added.has(a.id));
    const shown = lost.find((a) => a.id === this.open);
    this.files = [...files, ...this.files.filter((a) => added.has(a.id) && !now.has(a.id))];
    this.list();
    if (shown) this.preview.say(`${shown.file_name} is not here any more: somebody has deleted it.`, 'alert');
    const news = [fresh && count(fresh, 'new file'), lost.length && `${count(lost.length, 'file')} deleted`].filter(Boolean);
    if (news.length) say(`${news.join(', ')}.`);
  }

  // loadFaults learns which files the server knows to be missing or damaged.
  async loadFaults() {
    const faults = await api.get(`/faults?space=${encodeURIComponent(this.place.space)}`, { signal: this.stop.signal });
    this.faults = new Map(faults.map((f) => [f.attachment_id, whatIsWrong[f.what]]));
    this.grid.later();
  }

  async loadComments() {
    const rank = (c) => c.number ?? 0; // those without one are the oldest, in the order of the list
    this.comments = (await api.all(`${this.place.record}/comments`)).sort((a, b) => rank(a) - rank(b));
    if (!this.comments.length) return;
    const value = this.comment.value;
    clear(this.comment, h('option', { value: '' }, 'All comments'), this.comments.map((c) => this.commentOption(c)));
    this.comment.value = this.comments.some((c) => c.id === value) ? value : '';
    this.comment.hidden = false;
    this.drawHint();
  }

  // A comment's text is in the system of record: here it has a number and a time.
  commentLabel(id) {
    const i = this.comments.findIndex((c) => c.id === id);
    return id ? `Comment ${i >= 0 ? this.comments[i].number ?? i + 1 : id.slice(0, 8)}` : '';
  }

  commentOption(c) {
    return h('option', { value: c.id }, this.commentLabel(c.id) + (c.created_at ? ` · ${dateTime(c.created_at)}` : ''));
  }

  mayUpload() {
    const role = this.app.role(this.place.space);
    return role === 'editor' || role === 'admin' || this.place.kind === 'ticket' && this.record?.owner_id === this.app.me.id;
  }

  // mayDelete is true where it is worth trying.
  mayDelete(a) {
    return a.uploaded_by.id === this.app.me.id || this.app.role(this.place.space) === 'admin' || this.record?.owner_id === this.app.me.id;
  }

  async drawHint() {
    const may = this.mayUpload();
    this.chooser.hidden = !may;
    if (!may) return clear(this.hint, h('p', {}, 'You can view and download these files.'));
    const limits = await this.app.limits;
    const size = limits?.max_file_size ? `Up to ${bytes(limits.max_file_size)} each.` : '';
    this.attach ??= this.comments.length ? h('select', { 'aria-label': 'Comment that new files belong to' }) : null;
    if (this.attach) {
      const { value } = this.attach;
      clear(this.attach, h('option', { value: '' }, 'no comment'), this.comments.map((c) => this.commentOption(c)));
      this.attach.value = this.comments.some((c) => c.id === value) ? value : '';
    }
    clear(this.hint, h('p', {}, h('span', { class: 'wide' }, 'Drop files or folders anywhere here, or paste a picture. '), size),
      this.attach ? h('label', {}, 'New files go to ', this.attach) : null,
      acceptedTypes(limits));
  }

  list() {
    const needle = this.filter.value.trim().toLocaleLowerCase();
    const { by, down } = this.sorted;
    this.drawKinds();
    this.files.sort((a, b) => (down ? -orders[by](a, b) : orders[by](a, b))); // all but sorted already, mostly
    const rows = this.files.filter((a) => (!needle || a.file_name.toLocaleLowerCase().includes(needle))
      && (!this.kind.value || a.kind === this.kind.value)
      && (!this.comment.value || a.comment_id === this.comment.value));
    this.grid.show(rows, this.sorted);
    this.order.value = `${by} ${down ? 'down' : 'up'}`;
    if (this.open && this.preview.file?.id !== this.open) this.preview.show(this.files.find((a) => a.id === this.open) ?? null);
  }

  // listed shows the grid, or why it has no rows.
  listed() {
    this.actions.show();
    const filtered = this.filter.value.trim() || this.kind.value || this.comment.value;
    const want = this.grid.rows.length ? this.grid.el : this.nothing(filtered);
    if (this.body.firstChild === want) return;
    clear(this.body, want);
    this.grid.draw();
  }

  nothing(filtered) {
    const why = [this.loading, Boolean(filtered), this.mayUpload()].join();
    if (this.emptied?.why !== why) this.emptied = { why, el: this.sayWhy(filtered) };
    return this.emptied.el;
  }

  sayWhy(filtered) {
    if (this.loading) return h('p', { class: 'soft centre' }, 'Loading…');
    if (filtered) return empty('search', 'No file matches', 'Try other words, or another type.', button('Show all files', { click: () => { this.filter.value = this.kind.value = this.comment.value = ''; this.list(); } }));
    if (!this.mayUpload()) return empty('file', 'No files yet', 'Files appear here when an editor of the space uploads some.');
    return empty('upload', 'No files yet', 'Drop files or folders anywhere here, paste a picture, or choose files from this computer.', button('Choose files', { class: 'primary', icon: 'upload', click: () => this.pick.click() }));
  }

  drawKinds() {
    const counts = Map.groupBy(this.files, (a) => (a.kind ??= kindOf(a.mime_type)));
    const value = this.kind.value;
    const says = [...counts].map(([k, list]) => k + list.length).join();
    if (says === this.kindsShown) return;
    this.kindsShown = says;
    clear(this.kind, h('option', { value: '' }, 'All types'), Object.entries(kinds).filter(([k]) => counts.has(k)).map(([k, { label }]) => h('option', { value: k }, `${label} (${counts.get(k).length.toLocaleString()})`)));
    this.kind.value = counts.has(value) ? value : '';
  }

  // Taking files in.

  accept() {
    const note = this.target.querySelector('p');
    const show = (on) => {
      if (this.target.hidden !== on) return;
      this.target.hidden = !on;
      note.textContent = this.mayUpload() ? `Drop to upload to ${this.name ?? 'this place'}` : 'You may not upload here';
    };
    // What was entered is not counted: a list that changes takes it off the page, and then
    // nothing tells that it was left. A pointer that moves is in no drag.
    for (const name of ['dragenter', 'dragover']) this.el.addEventListener(name, (e) => { if (bringsFiles(e)) show(true); });
    this.el.addEventListener('pointermove', () => show(false));
    this.el.addEventListener('dragleave', (e) => { if (!this.el.contains(e.relatedTarget)) show(false); });
    this.el.addEventListener('drop', async (e) => {
      e.preventDefault();
      show(false);
      this.upload(await filesOf(e.dataTransfer).catch(() => []));
    });
  }

  paste(e) {
    const files = pasted(e.clipboardData);
    if (!files.length) return;
    e.preventDefault();
    this.upload(files);
  }

  upload(files) {
    if (!files.length) return;
    if (!this.mayUpload()) return say('You may not upload here.');
    this.app.uploads.add(this.place, files, this.attach?.value ?? '');
  }

  uploaded({ place, attachment }) {
    if (place.list !== this.place.list || this.files.some((a) => a.id === attachment.id)) return;
    this.changed?.added.add(attachment.id);
    this.files.push({ ...attachment, isNew: true });
    this.listing ??= requestAnimationFrame(() => { this.listing = null; this.list(); });
  }

  gone(ids) {
    for (const id of ids) this.changed?.gone.add(id);
    this.files = this.files.filter((a) => !ids.has(a.id));
    if (ids.has(this.open)) location.replace(this.place.hash);
    this.list();
  }

  restored(files) {
    for (const attachment of files) {
      this.changed?.gone.delete(attachment.id);
      this.uploaded({ place: this.place, attachment });
    }
  }
}

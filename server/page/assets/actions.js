// What can be done with files: a bar above the list for those that are
// selected, and questions about them, which are asked where the button is.

import { h, clear, button, fileName, say } from './dom.js';
import { bytes, count, dateTime, span } from './format.js';
import * as api from './api.js';

const mostPacked = 1500; // files, and bytes, of which the page takes an archive
const mostBytesPacked = 512 << 20;
const lifetimes = [[3600, '1 hour'], [86400, '1 day'], [7 * 86400, '7 days']];

export class Actions {
  constructor(view) {
    this.view = view;
    const keydown = (e) => { if (e.key === 'Escape' && this.asking) { e.stopPropagation(); this.done(); } };
    this.el = h('div', { class: 'actions', role: 'region', 'aria-label': 'Selected files', keydown });
    this.ofPreview = h('div', { class: 'actions', role: 'group', 'aria-label': 'This file', keydown });
    this.bar = this.el; // where the question is, while there is one
    this.shown = ''; // what the bar says: it is not drawn anew under somebody's hand
    this.deleted = []; // what was deleted last and can be restored
    this.keep = 0; // seconds for which that is possible
    view.app.limits.then((limits) => { this.keep = limits?.trash_keep_seconds ?? 0; });
  }

  // show says what is listed, or what may be done with what is selected.
  show() {
    const chosen = this.view.grid.chosen();
    if (this.asking && !this.about(chosen)) this.forget();
    if (this.asking && this.bar === this.el) return;
    const totals = this.totals();
    const undo = !chosen.length && this.deleted.length > 0;
    const says = chosen.length ? chosen.map((a) => a.id).join() : undo ? this.deleted : totals;
    if (says === this.shown) return;
    this.shown = says;
    if (undo) return this.offerUndo();
    if (!chosen.length) return clear(this.el, totals ? h('p', { class: 'soft' }, totals) : null);
    const mine = chosen.filter((a) => this.view.mayDelete(a));
    clear(this.el, h('p', {}, `${chosen.length.toLocaleString()} selected · ${bytes(sum(chosen))}`),
      button(this.packs(chosen) ? 'Download as ZIP' : 'Download', { class: 'plain', icon: 'download', click: () => this.download(chosen) }),
      chosen.length === 1 ? button('Copy link', { class: 'plain', icon: 'link', click: () => this.askForLink(chosen[0]) }) : null,
      mine.length ? button('Delete', { class: 'plain', icon: 'trash', click: () => this.askToDelete() }) : null,
      button('Clear', { class: 'plain', click: () => { this.view.grid.select([]); this.view.grid.el.focus(); } }));
  }

  // about says whether the question is still about what is selected or open.
  about(chosen) {
    const there = new Set(this.view.files.map((a) => a.id));
    return this.asking.length > 0 && this.asking.every((a) => there.has(a.id)) && (this.bar === this.ofPreview ? this.view.open === this.asking[0].id : this.single || chosen.length === this.chosen);
  }

  totals() {
    const { files, loading, grid } = this.view;
    if (loading) return files.length ? `Loading… ${count(files.length, 'file')} so far` : 'Loading…';
    if (!files.length) return '';
    const all = `${count(files.length, 'file')} · ${bytes(sum(files))}`;
    return grid.rows.length === files.length ? all : `${grid.rows.length.toLocaleString()} of ${all}`;
  }

  forget() {
    this.asking = null;
    this.shown = null;
    clear(this.ofPreview);
  }

  done() {
    const { bar } = this;
    this.forget();
    this.show();
    (bar === this.ofPreview && this.from?.checkVisibility() ? this.from : this.view.grid.el).focus();
  }

  ask(files, single, ...content) {
    if (!this.asking) this.from = document.activeElement;
    this.asking = files;
    this.single = single;
    this.chosen = this.view.grid.selected.size;
    clear(this.bar, content);
  }

  // begin makes a bar that of the question to come.
  begin(bar) {
    if (this.asking) this.forget();
    this.bar = bar;
    this.show();
  }

  isAll(files) { return files.length === this.view.files.length && !this.view.loading; }

  // packs says whether files come as one archive: not where some of them, but not all, are
  // too much to pass through the page.
  packs(files) { return files.length > 1 && (this.isAll(files) || files.length <= mostPacked && sum(files) <= mostBytesPacked); }

  async download(files) {
    this.begin(this.el);
    try {
      if (this.packs(files)) {
        say('Packing…');
        await api.archive(this.view.place, this.isAll(files) ? null : files.map((a) => a.id));
        return say(`The download of ${count(files.length, 'file')} as one ZIP archive has started.`);
      }
      for (const a of files) {
        await api.download(this.view.place, a.id).catch((e) => { throw e.status === 404 ? new Error(api.reason(e, a)) : new Error(`${a.file_name}: ${e.message}`); });
        if (files.length > 1) await new Promise((next) => setTimeout(next, 250)); // browsers drop what comes at once
      }
    } catch (e) {
      return this.tell([e.message]);
    }
    say(`${count(files.length, 'download')} started.`);
  }

  // askToDelete asks about the selected files, or about one.
  askToDelete(one = null) {
    this.begin(one ? this.ofPreview : this.el);
    const chosen = (one ? [one] : this.view.grid.chosen());
    const files = chosen.filter((a) => this.view.mayDelete(a));
    if (!files.length) return chosen.length && this.tell(['You may only delete files that you have uploaded.']);
    const left = chosen.length - files.length;
    const what = files.length === 1 ? ['Delete ', fileName(files[0].file_name), '?'] : [`Delete ${count(files.length, 'file')}?`];
    const yes = button(files.length === 1 ? 'Delete file' : `Delete ${files.length.toLocaleString()} files`, { class: 'danger', click: () => this.remove(files) });
    this.ask(files, one !== null, h('p', { class: 'question' }, h('strong', {}, what), ' ',
      `Everybody loses ${files.length === 1 ? 'it' : 'them'}, and links to ${files.length === 1 ? 'it' : 'them'} stop working. ${this.keep ? `This can be undone for ${span(this.keep)}, unless the server needs the room before.` : 'This cannot be undone.'}`,
      left ? ` ${count(left, 'other')} selected ${left === 1 ? 'is' : 'are'} not yours to delete and stay${left === 1 ? 's' : ''}.` : ''),
    yes, button('Cancel', { class: 'plain', click: () => this.done() }));
    yes.focus();
  }

  async remove(files) {
    const gone = new Set();
    const deleted = [];
    const errors = [];
    const note = h('p', {}, 'Deleting…');
    clear(this.bar, note);
    const queue = [...files];
    const work = async () => {
      for (let a = queue.shift(); a; a = queue.shift()) {
        try {
          await api.remove(this.view.place.file(a.id));
          gone.add(a.id);
          deleted.push(a);
        } catch (e) {
          if (e.status === 404) gone.add(a.id);
          else errors.push(`${a.file_name}: ${e.message}`);
        }
        note.textContent = `Deleting… ${gone.size.toLocaleString()} of ${files.length.toLocaleString()}`;
      }
    };
    await Promise.all([work(), work(), work(), work()]);
    this.deleted = this.keep ? deleted : [];
    this.view.gone(gone);
    say(`${count(gone.size, 'file')} deleted.${errors.length ? ` ${errors.length} refused.` : ''}${this.deleted.length ? ' Undo is above the list.' : ''}`);
    if (errors.length) this.tell(errors);
    else this.done();
  }

  // offerUndo says what was deleted last, and offers to bring it back.
  offerUndo() {
    const files = this.deleted;
    const what = files.length === 1 ? [fileName(files[0].file_name), ' was deleted.'] : `${count(files.length, 'file')} deleted.`;
    clear(this.el, h('p', {}, what), button('Undo', { class: 'plain', icon: 'retry', click: () => this.undo(files) }),
      button('Dismiss', { class: 'plain', click: () => { this.deleted = []; this.done(); } }));
  }

  async undo(files) {
    this.deleted = [];
    this.begin(this.el);
    const errors = [];
    const back = [];
    clear(this.bar, h('p', {}, 'Restoring…'));
    for (const a of files) {
      try {
        back.push(await api.post(`${this.view.place.file(a.id)}/restore`));
      } catch (e) {
        errors.push(`${a.file_name}: ${e.message}`);
      }
    }
    this.view.restored(back);
    say(`${count(back.length, 'file')} restored.${errors.length ? ` ${errors.length} refused.` : ''}`);
    if (errors.length) this.tell(errors);
    else this.done();
  }

  tell(sentences) {
    this.ask(this.bar === this.ofPreview ? [this.view.preview.file] : this.view.files.slice(0, 1), true, h('ul', { class: 'error', role: 'alert' }, sentences.slice(0, 20).map((s) => h('li', {}, h('bdi', {}, s)))),
      button('Dismiss', { class: 'plain', click: () => this.done() }));
  }

  askForLink(file, bar = this.el) {
    this.begin(bar);
    const life = h('select', { 'aria-label': 'How long the link works' }, lifetimes.map(([value, label]) => h('option', { value }, label)));
    const copy = button('Copy link', { class: 'primary', icon: 'link', click: () => this.link(file, Number(life.value)) });
    this.ask([file], true, h('p', { class: 'question' }, 'A link to ', fileName(file.file_name), ' needs no key: whoever has it can download the file for '), life, copy, button('Cancel', { class: 'plain', click: () => this.done() }));
    copy.focus();
  }

  async link(file, seconds) {
    let made;
    try {
      made = await api.link(this.view.place, file.id, { expires_in: seconds });
    } catch (e) {
      return this.tell([api.reason(e, file)]);
    }
    let copied = true;
    try { await navigator.clipboard.writeText(made.download_url); } catch { copied = false; }
    const until = `It works until ${dateTime(made.expires_at)}, that is for ${span(seconds)}.`;
    say(`${copied ? 'Link copied.' : 'The link is ready to copy.'} ${until}`);
    if (this.asking?.[0] !== file) return; // another file is looked at by now
    const shown = h('input', { class: 'address', readonly: true, value: made.download_url, 'aria-label': 'The link', focus: () => shown.select() });
    this.ask([file], true, h('p', { class: 'question' }, h('strong', {}, copied ? 'Link copied.' : 'Copy this link:'), ' ', until), shown, button('Done', { class: 'plain', click: () => this.done() }));
    if (!copied) shown.focus();
  }
}

const sum = (files) => files.reduce((n, a) => n + a.file_size, 0);

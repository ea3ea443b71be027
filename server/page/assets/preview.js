// Looking inside a file beside the list, without downloading it. Nothing in a
// file is ever run: pictures are pictures, text is text, and a PDF is left to
// the browser's viewer in a frame of its own.

import { h, clear, button, fileName, empty } from './dom.js';
import { bytes, count, relative, exact, dateTime, kindOf, kinds } from './format.js';
import * as api from './api.js';
import { tree } from './tree.js';
import { pixelsOf, headBytes } from './pixels.js';

const mostJSON = 4 << 20;
const mostPixels = 25e6; // of a picture that is decoded unasked: four bytes of memory each
const shownAsPicture = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/bmp', 'image/avif', 'image/svg+xml']);

export class Preview {
  constructor(view) {
    Object.assign(this, { view, file: null, url: null });
    this.title = h('h1', {});
    this.facts = h('p', { class: 'soft small' });
    this.body = h('div', { class: 'preview-body', tabindex: '0', role: 'group', 'aria-label': 'Content of the file' });
    this.el = h('aside', { class: 'preview', 'aria-label': 'Preview', tabindex: '-1', hidden: true, keydown: (e) => { if (e.key === 'Escape') this.leave(); } },
      h('header', {}, h('div', { class: 'preview-title' }, this.title,
        button('Previous file', { class: 'plain', icon: 'back', quiet: true, click: () => this.step(-1) }),
        button('Next file', { class: 'plain', icon: 'next', quiet: true, click: () => this.step(1) }),
        button('Close preview', { class: 'plain', icon: 'close', quiet: true, click: () => this.leave() })),
        this.facts,
        h('div', { class: 'preview-tools' },
          button('Download', { icon: 'download', click: () => api.download(view.place, this.file.id).catch((e) => this.say(api.reason(e, this.file), 'alert')) }),
          button('Copy link', { icon: 'link', click: () => view.actions.askForLink(this.file, view.actions.ofPreview) }),
          this.bin = button('Delete', { icon: 'trash', click: () => view.actions.askToDelete(this.file) })),
        view.actions.ofPreview),
      this.body);
  }

  leave() {
    location.hash = this.view.place.hash;
  }

  step(by) {
    const { rows } = this.view.grid;
    const i = rows.findIndex((a) => a.id === this.file.id) + by;
    if (rows[i]) location.replace(this.view.address(rows[i]));
  }

  close() {
    this.stop?.abort();
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
  }

  missing() {
    this.el.hidden = false;
    this.el.parentElement?.classList.add('split');
    clear(this.title, 'Not here');
    clear(this.facts);
    this.say('This file is not in this place, or no longer.');
  }

  say(sentence, name = 'file') { clear(this.body, empty(name, sentence, '')); }

  async show(file) {
    if (file?.id === this.file?.id && file) return;
    this.close();
    this.file = file;
    this.el.hidden = !file;
    this.el.parentElement?.classList.toggle('split', Boolean(file));
    if (!file) return clear(this.body);
    const kind = kindOf(file.mime_type);
    clear(this.title, fileName(file.file_name));
    clear(this.facts, `${bytes(file.file_size)} · ${file.mime_type} · `, h('bdi', {}, file.uploaded_by.full_name), ' · ', h('time', { datetime: file.created_at, title: exact(file.created_at) }, relative(file.created_at)));
    this.bin.hidden = !this.view.mayDelete(file);
    clear(this.body, h('p', { class: 'soft centre' }, 'Loading…'));
    this.stop = new AbortController();
    const { signal } = this.stop;
    try {
      const shown = await this.content(file, signal);
      if (signal.aborted) return;
      clear(this.body, shown ?? empty(kinds[kind].icon, 'No preview of this type', 'Download the file to open it with a program on your computer.'));
    } catch (e) {
      if (e.name !== 'AbortError') this.say(api.reason(e, file), 'alert');
    }
  }

  content(file, signal) {
    const type = file.mime_type;
    if (shownAsPicture.has(type)) return this.picture(file, signal);
    if (type === 'image/tiff') return [note('A small picture of it. Download the file to see it in full.'), this.small(file)];
    if (type === 'application/pdf') return this.pdf(file);
    if (type === 'text/csv' || type === 'text/tab-separated-values') return this.table(file, signal);
    if (/json/.test(type)) return this.json(file, signal);
    if (type === 'application/zip') return this.archive(file, signal);
    if (/^text\/(?!rtf)|^message\/rfc822$|(xml|yaml)$/.test(type)) return this.text(file, signal);
    return null;
  }

  bytes(file, first, signal) {
    return api.bytesOf(this.view.place.download(file.id), { first: first < file.file_size ? first : 0, signal });
  }

  // picture shows one as it is, or, if it is a very large one, first the server's
  // small picture of it.
  async picture(file, signal) {
    const head = await this.bytes(file, headBytes, signal);
    if (pixelsOf(file.mime_type, await head.blob.arrayBuffer()) <= mostPixels) return this.whole(file, signal, head.cut ? null : head.blob);
    const full = button('Show in full', { click: async () => {
      full.disabled = true;
      try {
        const shown = await this.whole(file, signal);
        if (!signal.aborted) clear(this.body, shown);
      } catch (e) {
        if (e.name !== 'AbortError') this.say(e.message, 'alert');
      }
    } });
    return [h('div', { class: 'note tools-end' }, h('p', { class: 'soft small' }, 'This picture may be very large. To show it in full can take much memory.'), full), this.small(file)];
  }

  small(file) {
    const img = h('img', { src: api.at(`${this.view.place.file(file.id)}/thumbnail`), alt: `Small picture of ${file.file_name}` });
    const frame = h('div', { class: 'picture' }, img);
    img.addEventListener('error', () => frame.replaceWith(empty('image', 'No small picture of this file', '')));
    return frame;
  }

  async whole(file, signal, blob) {
    blob ??= (await this.bytes(file, Infinity, signal)).blob;
    if (signal.aborted) return null;
    this.url = URL.createObjectURL(blob);
    const img = h('img', { src: this.url, alt: file.file_name });
    img.addEventListener('error', () => this.say('This browser cannot show the picture.', 'image'));
    return h('div', { class: 'picture' }, img);
  }

  // A frame with the attribute sandbox shows no PDF in Chromium. The file's own
  // policy lets nothing load, and the browser's viewer runs on its own.
  async pdf(file) {
    const made = await api.link(this.view.place, file.id, { expires_in: 600, disposition: 'inline' });
    return h('iframe', { src: `${made.here}#navpanes=0&view=FitH`, title: `PDF: ${file.file_name}`, referrerpolicy: 'no-referrer' });
  }

  async text(file, signal) {
    const seen = await this.seen(file, signal);
    return seen && plain(seen, file);
  }

  async table(file, signal) {
    const seen = await this.seen(file, signal);
    if (!seen?.columns.length) return seen && empty('table', 'No rows', '');
    const { columns, rows, rows_total: total, truncated } = seen;
    const few = total === null ? `The first ${count(rows.length, 'row')}.` : `The first ${rows.length.toLocaleString()} of ${count(total, 'row')}.`;
    const all = rows.length === total ? `${count(total, 'row')}. Long rows or cells are cut.` : few;
    const width = rows.reduce((most, row) => Math.max(most, row.length), columns.length);
    return [note(truncated ? `${all} Download the file for all of it.` : count(total, 'row')),
      sheet(Array.from({ length: width }, (_, i) => columns[i] ?? ''), rows)];
  }

  // json shows a tree. What the server does not send whole is taken from the file:
  // in UTF-8, as JSON should be, or it is shown as text.
  async json(file, signal) {
    const seen = await this.seen(file, signal);
    if (!seen) return null;
    if (seen.truncated && file.file_size > mostJSON) return plain(seen, file);
    const text = seen.truncated ? await (await this.bytes(file, Infinity, signal)).blob.text() : seen.text;
    if (seen.truncated && text.includes('\ufffd')) return plain(seen, file);
    try {
      if (/ndjson|jsonl|json-seq/.test(file.mime_type)) return tree(text.split('\n').filter((l) => l.trim()).map((l) => JSON.parse(l)));
      return tree(JSON.parse(text));
    } catch {
      return [note('This is not well-formed JSON; here is its text.'), plain(seen, file)];
    }
  }

  async archive(file, signal) {
    const seen = await this.seen(file, signal);
    return seen && [note(seen.truncated ? `The first ${seen.entries.length.toLocaleString()} of ${count(seen.entries_total, 'entry', 'entries')}.` : count(seen.entries_total, 'entry', 'entries')),
      sheet(['Name', 'Size', 'Modified'],
        seen.entries.map((e) => [h('bdi', {}, e.name), e.directory ? '' : bytes(e.size), e.modified ? dateTime(e.modified) : '']))];
  }

  // seen is what the server sees inside, or null if it looks into no such files.
  async seen(file, signal) {
    try {
      return await api.get(`${this.view.place.file(file.id)}/preview`, { signal });
    } catch (e) {
      if (e.code === 'no_preview') return null;
      throw e;
    }
  }
}

const plain = (seen, file) => [seen.truncated ? note(`The beginning of ${bytes(file.file_size)}. Download the file for all of it.`) : null,
  h('pre', { dir: 'auto' }, seen.text)];

const note = (sentence) => h('p', { class: 'soft small note' }, sentence);

// sheet takes cells of text or elements.
function sheet(columns, rows) {
  return h('div', { class: 'sheet', tabindex: '0', role: 'group', 'aria-label': 'Table' }, h('table', {},
    h('thead', {}, h('tr', {}, columns.map((name) => h('th', { scope: 'col' }, h('bdi', {}, name))))),
    h('tbody', {}, rows.map((row) => h('tr', {}, columns.map((_, i) => h('td', { dir: 'auto' }, row[i] ?? '')))))));
}

// Uploads under way: each with its progress, wherever the reader goes
// meanwhile. What failed stays in the list until somebody retries or removes
// it.

import { h, clear, button, icon, fileName, say } from './dom.js';
import { bytes, count, span } from './format.js';
import * as api from './api.js';
import { acceptedTypes, withoutTypes } from './types.js';

const atOnce = 3;
const waits = [1, 2, 4, 8, 15, 30]; // seconds before the next try

export class Uploads {
  constructor(app) {
    this.app = app;
    this.items = [];
    this.done = new EventTarget();
    this.title = h('h2', {});
    this.list = h('ul', {});
    this.folded = false;
    this.el = h('section', { class: 'tray', 'aria-label': 'Uploads', hidden: true },
      h('div', { class: 'tray-head' }, this.title,
        this.retryAll = button('Retry all', { class: 'plain', icon: 'retry', click: () => this.items.filter((i) => i.state === 'failed').forEach((i) => this.retry(i)) }),
        this.tidy = button('Clear finished', { class: 'plain', click: () => this.clearFinished() })),
      this.list, this.accepted = h('div', { class: 'tray-types', hidden: true }));
    app.limits.then((limits) => this.accepted.append(...[acceptedTypes(limits)].filter(Boolean)));
    this.online = () => this.items.filter((i) => i.state === 'waiting').forEach((i) => this.retry(i));
    this.warn = (e) => { if (this.items.some(active)) e.preventDefault(); };
    addEventListener('online', this.online);
    addEventListener('beforeunload', this.warn);
  }

  add(place, files, comment = '') {
    for (const file of files) {
      const item = { place, file, comment, state: 'queued', sent: 0, tries: 0, error: '' };
      this.items.push(item);
      this.list.append(this.row(item));
    }
    if (files.length) say(`${count(files.length, 'file')} to upload.`);
    this.next();
  }

  // resume goes on after the same person has signed in again.
  resume(app) {
    this.app = app;
    for (const item of this.items) if (item.state === 'queued') this.draw(item);
    this.next();
    return this;
  }

  row(item) {
    item.bar = h('progress', { max: '1', value: 0, 'aria-label': `Upload of ${item.file.name}` });
    item.note = h('p', { class: 'note' });
    item.cancel = button('Cancel', { icon: 'close', quiet: true, 'aria-label': `Cancel ${item.file.name}`, click: () => this.remove(item) });
    item.again = button('Retry', { class: 'plain', icon: 'retry', 'aria-label': `Retry ${item.file.name}`, click: () => this.retry(item) });
    item.el = h('li', {}, icon('file'), h('div', { class: 'grow' }, fileName(item.file.name), item.bar, item.note), item.again, item.cancel);
    this.draw(item);
    return item.el;
  }

  next() {
    let running = this.items.filter((i) => i.state === 'running').length;
    for (const item of this.items) {
      if (running >= atOnce) break;
      if (item.state === 'queued') { this.send(item); running++; }
    }
    this.summary();
  }

  async send(item) {
    Object.assign(item, { state: 'running', sent: 0, began: performance.now(), samples: [], error: '' });
    this.draw(item);
    const limits = await this.app.limits;
    if (item.state !== 'running') return;
    if (limits?.max_file_size && item.file.size > limits.max_file_size) {
      return this.fail(item, new api.Refusal(413, { detail: `The file is larger than the limit of ${bytes(limits.max_file_size)} (${limits.max_file_size.toLocaleString()} bytes).` }));
    }
    const form = new FormData();
    if (item.comment) form.append('comment_id', item.comment);
    form.append('file', item.file, item.file.name);
    const request = item.request = new XMLHttpRequest();
    request.open('POST', api.at(item.place.list));
    request.setRequestHeader('Accept', 'application/json');
    request.upload.addEventListener('progress', (e) => this.progress(item, e.loaded, e.total));
    request.addEventListener('load', () => {
      if (request.status === 201) this.finish(item, JSON.parse(request.responseText));
      else this.fail(item, api.refusalOf(request.status, request.responseText, request.getResponseHeader('Retry-After')));
    });
    request.addEventListener('error', () => this.fail(item, api.unreachable()));
    request.send(form);
  }

  progress(item, sent, total) {
    const now = performance.now();
    item.samples.push([now, sent]);
    while (item.samples.length > 2 && now - item.samples[0][0] > 4000) item.samples.shift();
    item.sent = Math.min(sent, item.file.size);
    item.share = total ? sent / total : 0;
    if (now - (item.drawn ?? 0) > 100 || sent === total) { item.drawn = now; this.draw(item); this.summary(); }
  }

  finish(item, attachment) {
    item.state = 'done';
    this.draw(item);
    this.done.dispatchEvent(new CustomEvent('uploaded', { detail: { place: item.place, attachment } }));
    if (!this.items.some(active)) say('All uploads are finished.');
    this.next();
  }

  fail(item, refusal) {
    item.error = withoutTypes(refusal.message);
    item.code = refusal.code;
    if (refusal.status === 401) { // whoever signs in again goes on
      item.state = 'queued';
      return;
    }
    const passing = [0, 408, 429, 502, 503, 504].includes(refusal.status);
    if (passing && item.tries < 50) {
      const wait = Math.max(refusal.retryAfter, waits[Math.min(item.tries, waits.length - 1)]);
      item.tries++;
      item.state = 'waiting';
      item.until = Date.now() + wait * 1000;
      item.timer = setTimeout(() => this.retry(item, true), wait * 1000);
    } else {
      item.state = 'failed';
      say(`${item.file.name}: ${item.error}`);
    }
    this.draw(item);
    this.next();
  }

  retry(item, automatic = false) {
    clearTimeout(item.timer);
    if (!automatic) item.tries = 0;
    item.state = 'queued';
    this.draw(item);
    this.next();
  }

  remove(item) {
    clearTimeout(item.timer);
    const was = item.state;
    item.state = 'removed';
    item.request?.abort();
    this.items = this.items.filter((i) => i !== item);
    item.el.remove();
    if (was !== 'done') say(`${item.file.name} was cancelled.`);
    this.next();
  }

  clearFinished() {
    for (const item of this.items.filter((i) => i.state === 'done' || i.state === 'failed')) this.remove(item);
  }

  draw(item) {
    item.el.dataset.state = item.state;
    item.bar.value = item.state === 'done' ? 1 : item.state === 'running' ? item.share ?? 0 : 0;
    item.bar.hidden = item.state === 'failed' || item.state === 'done';
    item.again.hidden = item.state !== 'failed' && item.state !== 'waiting';
    item.cancel.setAttribute('aria-label', `${item.state === 'done' || item.state === 'failed' ? 'Remove from the list:' : 'Cancel'} ${item.file.name}`);
    item.note.textContent = this.describe(item);
    item.note.classList.toggle('error', item.state === 'failed');
  }

  describe(item) {
    const size = bytes(item.file.size);
    switch (item.state) {
      case 'queued': return `${size} · waiting for its turn`;
      case 'waiting': return `${item.error} Trying again by itself.`;
      case 'failed': return item.error;
      case 'done': return `${size} · uploaded`;
    }
    if (item.share >= 1) return `${size} · being stored`;
    const [[began, first], [now, sent]] = [item.samples?.[0] ?? [0, 0], item.samples?.at(-1) ?? [0, 0]];
    const rate = now > began ? (sent - first) / (now - began) * 1000 : 0;
    if (!rate) return `${bytes(item.sent)} of ${size}`;
    return `${bytes(item.sent)} of ${size} · ${bytes(rate)}/s · ${span(Math.max(1, (item.file.size - item.sent) / rate))} left`;
  }

  summary() {
    const { items } = this;
    this.el.hidden = items.length === 0;
    const open = items.filter(active).length;
    const failed = items.filter((i) => i.state === 'failed').length;
    const done = items.filter((i) => i.state === 'done').length;
    this.title.textContent = [open && `Uploading ${count(open, 'file')}`, done && `${done.toLocaleString()} uploaded`, failed && `${failed.toLocaleString()} refused`].filter(Boolean).join(' · ');
    this.accepted.hidden = !items.some((i) => i.state === 'failed' && i.code === 'invalid_file');
    this.retryAll.hidden = failed < 2;
    this.tidy.hidden = done + failed === 0;
  }

  close() {
    removeEventListener('online', this.online);
    removeEventListener('beforeunload', this.warn);
    for (const item of this.items) { clearTimeout(item.timer); item.state = 'removed'; item.request?.abort(); }
    clear(this.list);
  }
}

const active = (item) => ['queued', 'running', 'waiting'].includes(item.state);
